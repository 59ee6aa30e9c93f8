package disk

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb/journal"
)

// journalOfBatches writes batches whose bodies have the given lengths.
func journalOfBatches(t testing.TB, lengths ...int) []byte {
	var b bytes.Buffer
	w := journal.NewWriter(&b)
	for i, n := range lengths {
		record := binary.LittleEndian.AppendUint64(nil, uint64(i+1))
		record = binary.LittleEndian.AppendUint32(record, 1)
		record = append(record, bytes.Repeat([]byte{byte(100 + i)}, n)...)
		j, err := w.Next()
		require.NoError(t, err)
		_, err = j.Write(record)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
	}
	return b.Bytes()
}

// A journal cut anywhere is clean or torn, never damaged; so it is when its tail is zeroed.
func TestScanEveryCut(t *testing.T) {
	whole := journalOfBatches(t, 10, 0, 40000, 5, 32740, 70000, 3)
	require.Equal(t, verdict{records: 7}, scan(whole, true))
	last := -1
	for cut := 0; cut <= len(whole); cut += 1 + cut%301 {
		v := scan(whole[:cut], true)
		require.False(t, v.damaged, "cut at %d: %s", cut, v.what)
		require.GreaterOrEqual(t, v.records, last)
		last = v.records
		zeroed := append(bytes.Clone(whole[:cut]), make([]byte, len(whole)-cut)...)
		require.False(t, scan(zeroed, true).damaged, "zeroed from %d", cut)
	}
}

// A batch that takes an old sequence is what a write after a failed one would leave: damage.
func TestScanFindsReusedSequence(t *testing.T) {
	b := append(journalOfBatches(t, 10, 10), journalOfBatches(t, 10)...)
	require.True(t, scan(b, true).damaged)
	require.False(t, scan(b, false).damaged)
}

// A torn batch whose body holds a journal of other numbers is torn, not damaged.
func TestScanIsNotFooledByBodies(t *testing.T) {
	inner := journalOfBatches(t, 10, 20, 30)
	good := journalOfBatches(t, 10, 10, 10, 10, 10)
	torn := bytes.Clone(good)
	header := make([]byte, chunkHeader)
	header[6] = 1
	binary.LittleEndian.PutUint16(header[4:], uint16(len(inner)+500))
	torn = append(append(torn, header...), inner...)
	v := scan(torn, true)
	require.True(t, v.torn && !v.damaged, v.what)
	require.Equal(t, int64(len(good)), v.offset)
}

func FuzzScan(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add(journalOfBatches(f, 1, 2, 3), true)
	f.Add(journalOfBatches(f, 40000, 3), false)
	f.Add(make([]byte, 100), false)
	f.Fuzz(func(t *testing.T, b []byte, batches bool) {
		v := scan(b, batches)
		if (v.torn || v.damaged) && (v.offset < 0 || v.offset >= int64(len(b))) || v.torn && v.damaged {
			t.Fatalf("%+v for %d bytes", v, len(b))
		}
	})
}
