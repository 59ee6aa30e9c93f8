package event

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// goldenHello may only gain keys.
const goldenHello = `{"v":1,"target":"sqlite","topics":["a","b"],"master":true,"at":7,"loaded":"0102030405060708",` +
	`"stateless":true,"packs":true,"backup":true,"features":["a.b"],"host":"h","pid":9}`

func TestHelloGoldenBytes(t *testing.T) {
	h := Hello{V: 1, Target: "sqlite", Topics: []string{"a", "b"}, Master: true, At: 7, Loaded: 0x0102030405060708,
		Stateless: true, Packs: true, Backup: true, Features: []string{"a.b"}, Host: "h", Pid: 9}
	require.Equal(t, goldenHello, string(h.Encode()))
	got, err := DecodeHello([]byte(goldenHello))
	require.NoError(t, err)
	require.Equal(t, h, got)
	got, err = DecodeHello(nil)
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestHelloDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics, err := SortTopics(rapid.SliceOfN(rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,62}`), 0, 64).Draw(t, "topics"))
		require.NoError(t, err)
		h := Hello{V: 1, Target: rapid.StringMatching(`[a-z]{0,32}`).Draw(t, "target"), Topics: topics,
			At:     rapid.Uint64().Draw(t, "at"),
			Loaded: RequestID(rapid.Uint64Min(1).Draw(t, "loaded")), Host: rapid.StringMatching(`[a-z.]{0,255}`).Draw(t, "host"),
			Pid: rapid.Int().Draw(t, "pid")}
		got, err := DecodeHello(h.Encode())
		require.NoError(t, err)
		require.Equal(t, h, got)
	})
}

func TestHelloRefusesNonsense(t *testing.T) {
	many := strings.Repeat(`"a",`, 64) + `"a"`
	for _, s := range []string{
		"x", "{", `{"v":0}`, `{"v":2}`, `{}`, `[]`, `{"v":1} x`, `{"v":"1"}`, `{"v":1,"at":-1}`,
		`{"v":1,"at":18446744073709551616}`, `{"v":1,"loaded":"1"}`,
		`{"v":1,"topics":["A"]}`, `{"v":1,"topics":[""]}`, `{"v":1,"topics":["a b"]}`, `{"v":1,"topics":[` + many + `]}`,
		`{"v":1,"features":"a.b"}`, `{"v":1,"features":["` + strings.Repeat("f", 65) + `"]}`, `{"v":1,"features":[` + many +
			`]}`,
		`{"v":1,"host":"` + strings.Repeat("h", 256) + `"}`, `{"v":1,"target":"` + strings.Repeat("t", 33) + `"}`,
		`{"v":1,"product":"` + strings.Repeat("p", 33) + `"}`,
		strings.Repeat("[", 8<<10), strings.Repeat(" ", 9<<10),
	} {
		_, err := DecodeHello([]byte(s))
		require.ErrorIs(t, err, ErrDamaged, "%.40s", s)
		require.Less(t, len(err.Error()), 300)
	}
}

func TestHelloCutAtEveryByteIsDamaged(t *testing.T) {
	for n := 1; n < len(goldenHello); n++ {
		_, err := DecodeHello([]byte(goldenHello[:n]))
		require.ErrorIs(t, err, ErrDamaged, n)
	}
}

func TestWants(t *testing.T) {
	require.True(t, Wants(nil, nil))
	require.True(t, Wants(nil, []byte("a")))
	require.True(t, Wants([]string{"a", "b"}, []byte("b")))
	require.False(t, Wants([]string{"a", "b"}, []byte("c")))
	require.False(t, Wants([]string{"a", "b"}, nil), "a node that names topics does not apply increments without one")
	require.Zero(t, testing.AllocsPerRun(10, func() { Wants([]string{"a", "b"}, []byte("b")) }))
}

func TestSortTopicsKeepsItsArgument(t *testing.T) {
	in := []string{"b", "a", "b"}
	got, err := SortTopics(in)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, got)
	require.Equal(t, []string{"b", "a", "b"}, in)
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(goldenHello))
	f.Add([]byte(`{"v":1,"topics":["b","a","a"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHello(b)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		again, err := DecodeHello(h.Encode())
		require.NoError(t, err, fmt.Sprintf("%q", b))
		if len(b) > 0 {
			require.Equal(t, h, again)
		}
	})
}
