package redis

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func read(data string) (entries []entry, err error) {
	err = readEntries(bufio.NewReader(strings.NewReader(data)),
		func(e entry) error { entries = append(entries, e); return nil })
	return entries, err
}

// Entries that no node has written are damage, and lengths that lie cost nothing.
func TestDamagedEntriesAreRefused(t *testing.T) {
	key := "\x01\x01\x00\x00\x00" + strings.Repeat("\x00", 8) + "\x01\x00\x00\x00kv"
	for data, want := range map[string]string{
		"":               "unexpected EOF",
		"\x03":           "entry 0 is of kind 3",
		key:              "unexpected EOF",
		key[:len(key)-1]: "unexpected EOF",
		key[:10]:         "unexpected EOF",
		key + "\x02":     "unexpected EOF",
		key + "\x02\x02" + strings.Repeat("\x00", 7):                             "ends after 1 keys but has counted 2",
		key + "\x02\x01" + strings.Repeat("\x00", 7) + "x":                       "goes on after its end",
		"\x01\x01\x00\x00\x20" + strings.Repeat("\x00", 12) + "k":                "a key of 536870913 bytes",
		"\x01\x01\x00\x00\x00" + strings.Repeat("\x00", 8) + "\xff\xff\xff\xffk": "a value of 4294967295",
		"\x01\x01\x00\x00\x00" + strings.Repeat("\xff", 8) + "\x00\x00\x00\x00k": "the expiry -1",
		"\x01\x00\x00\x00\x20" + strings.Repeat("\x00", 12):                      "unexpected EOF",
	} {
		_, err := read(data)
		require.ErrorContains(t, err, want, "%q", data)
	}
	entries, err := read(key + "\x02\x01" + strings.Repeat("\x00", 7))
	require.NoError(t, err)
	require.Equal(t, []entry{{key: "k", dump: "v"}}, entries)
}

func FuzzReadEntries(f *testing.F) {
	var b bytes.Buffer
	_ = entry{"key", "dump", 5}.write(&b)
	_ = writeEnd(&b, 1)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := read(string(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		for _, e := range entries {
			require.NoError(t, e.write(&again))
		}
		require.NoError(t, writeEnd(&again, uint64(len(entries))))
		require.Equal(t, data, again.Bytes())
	})
}
