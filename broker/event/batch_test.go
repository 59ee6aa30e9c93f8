package event

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func packed(h Batch, drafts ...Draft) []byte {
	b := BeginBatch(nil)
	for i := range drafts {
		before := len(b)
		if b = AppendDraft(b, &drafts[i]); len(b)-before != DraftSize(&drafts[i]) {
			panic("DraftSize lies")
		}
	}
	return SealBatch(b, h, len(drafts))
}

func batchHead() Batch { return Batch{Stream: 7, Number: 9, Base: 8} }

func fullBatch() []Draft {
	return []Draft{
		{Headers: Headers{Topic: "shop", ContentType: "text/x", Origin: "till", Key: "k"}, Body: []byte("a")},
		{Headers: Headers{Topic: "shop"}, Body: []byte("bc")},
		{},
	}
}

// goldenBatch holds every header, a draft without any and a body of no bytes. It may never change.
const goldenBatch = "01" + "0700000000000000" + "0900000000000000" + "0800000000000000" + "0000000000000000" +
	"03000000" +
	"04" + "01" + "0400" + "73686f70" + "02" + "0600" + "746578742f78" + "03" + "0400" + "74696c6c" + "05" + "0100" +
	"6b" + "01000000" + "61" +
	"01" + "01" + "0400" + "73686f70" + "02000000" + "6263" +
	"00" + "00000000" +
	"7fdef8ed"

// restamped gives b a right CRC again.
func restamped(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	return binary.LittleEndian.AppendUint32(b[:len(b)-4:len(b)-4], CRC32C(b[:len(b)-4]))
}

func TestBatchGoldenBytes(t *testing.T) {
	b := packed(batchHead(), fullBatch()...)
	require.Equal(t, goldenBatch, hex.EncodeToString(b))
	got, err := DecodeBatch(b, nil)
	require.NoError(t, err)
	want := batchHead()
	want.Drafts = fullBatch()
	want.Drafts[2].Body = []byte{}
	require.Equal(t, want, got)
}

// A repetition is sealed again with another base; everything else is as it was.
func TestBatchIsSealedAgain(t *testing.T) {
	b := packed(batchHead(), fullBatch()...)
	h := batchHead()
	h.Base = 9
	got, err := DecodeBatch(SealBatch(b[:len(b)-4], h, 3), nil)
	require.NoError(t, err)
	require.EqualValues(t, 9, got.Base)
	require.Len(t, got.Drafts, 3)
}

func TestBatchCutAtEveryByteIsDamaged(t *testing.T) {
	whole := packed(batchHead(), fullBatch()...)
	for n := range whole {
		_, err := DecodeBatch(whole[:n:n], nil)
		require.ErrorIs(t, err, ErrDamaged, n)
		_, err = DecodeBatch(restamped(append([]byte(nil), whole[:n]...)), nil)
		require.ErrorIs(t, err, ErrDamaged, "%d bytes with a right CRC", n)
	}
}

func TestBatchRefusesWhatIsNotOne(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"another version":         func(b []byte) { b[0] = 2 },
		"no stream":               func(b []byte) { clear(b[1:9]) },
		"no base":                 func(b []byte) { clear(b[17:25]) },
		"a base above its number": func(b []byte) { b[17] = 10 },
		"no drafts":               func(b []byte) { clear(b[33:37]) },
		"more drafts than came":   func(b []byte) { b[33] = 4 },
		"fewer drafts":            func(b []byte) { b[33] = 2 },
		"2^32-1 drafts":           func(b []byte) { copy(b[33:], "\xff\xff\xff\xff") },
		"an unknown header":       func(b []byte) { b[38] = 6 },
		"a producer":              func(b []byte) { b[38] = 4 },
		"headers in disorder":     func(b []byte) { b[38] = 3 },
		"an empty header":         func(b []byte) { b[39] = 0 },
		"a header of 64 KiB":      func(b []byte) { b[39], b[40] = 0xFF, 0xFF },
		"a body of 4 GiB":         func(b []byte) { copy(b[len(b)-8:], "\xff\xff\xff\xff") },
		"keys beside keys":        func(b []byte) { b[25] = 1 },
		"keys past the last one":  func(b []byte) { copy(b[25:], "\xff\xff\xff\xff\xff\xff\xff\xff") },
	} {
		t.Run(name, func(t *testing.T) {
			b := packed(batchHead(), fullBatch()...)
			change(b)
			_, err := DecodeBatch(b, nil)
			require.ErrorIs(t, err, ErrDamaged)
			_, err = DecodeBatch(restamped(b), nil)
			require.ErrorIs(t, err, ErrDamaged)
		})
	}
}

// A time limit stands after all other headers of a draft; one that is out of bounds, or before another header, is
// damage.
func TestBatchCarriesTimeLimits(t *testing.T) {
	drafts := []Draft{{Headers: Headers{Topic: "shop", Key: "7", TextKey: true, Limit: 90 * time.Second},
		Body: []byte("a")},
		{Headers: Headers{Limit: NoLimit}, Body: []byte("b")}, {Body: []byte("c")}}
	h := batchHead()
	h.First = 0
	whole := packed(h, drafts...)
	got, err := DecodeBatch(whole, nil)
	require.NoError(t, err)
	require.Equal(t, drafts, got.Drafts)
	size := batchFixed + batchEnd
	for i := range drafts {
		size += DraftSize(&drafts[i])
	}
	require.Len(t, whole, size)
	at := bytes.LastIndex(whole, []byte{headerLimit, 4, 0}) // of the second
	for name, change := range map[string]func([]byte){
		"999 ms":         func(b []byte) { b[at+3], b[at+4] = 0xe7, 0x03 },
		"49 days":        func(b []byte) { copy(b[at+3:], "\xff\xff\xff\xff") },
		"of two bytes":   func(b []byte) { b[at+1] = 2 },
		"a text key":     func(b []byte) { b[at] = headerTextKey },
		"an unknown one": func(b []byte) { b[at] = headerLimit + 1 },
	} {
		b := bytes.Clone(whole)
		change(b)
		_, err := DecodeBatch(restamped(b), nil)
		require.ErrorIs(t, err, ErrDamaged, name)
	}
}

// One number in front stands for the keys of all drafts.
func TestBatchNumbersItsDrafts(t *testing.T) {
	h := batchHead()
	h.First = 99
	got, err := DecodeBatch(packed(h, Draft{Body: []byte("a")}, Draft{Body: []byte("b")}), make([]Draft, 1, 10))
	require.NoError(t, err)
	require.Equal(t, []Draft{{Headers: Headers{Key: "99"}, Body: []byte("a")},
		{Headers: Headers{Key: "100"}, Body: []byte("b")}}, got.Drafts)
}

// What is decoded into memory that is there already costs no allocation per draft.
func TestBatchDecodingDoesNotAllocatePerDraft(t *testing.T) {
	drafts := make([]Draft, 1000)
	for i := range drafts {
		drafts[i] = Draft{Headers: Headers{Topic: "shop"}, Body: []byte("body")}
	}
	h := batchHead()
	h.First = 1
	b, into := packed(h, drafts...), make([]Draft, 0, 1000)
	require.Less(t, testing.AllocsPerRun(10, func() {
		if _, err := DecodeBatch(b, into); err != nil {
			panic(err)
		}
	}), 5.0)
}

func FuzzBatch(f *testing.F) {
	f.Add(packed(batchHead(), fullBatch()...))
	h := batchHead()
	h.First = 5
	f.Add(packed(h, Draft{Body: []byte("x")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range [][]byte{b, restamped(append([]byte(nil), b...))} {
			got, err := DecodeBatch(in, nil)
			if err != nil {
				require.ErrorIs(t, err, ErrDamaged)
				continue
			}
			drafts := append([]Draft(nil), got.Drafts...)
			for i := range drafts {
				if got.First > 0 {
					drafts[i].Key = ""
				}
			}
			require.Equal(t, in, packed(got, drafts...))
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	d := Draft{Body: make([]byte, 128)}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := BeginBatch(nil)
		for i := 0; b.Loop(); i++ {
			if i%1000 == 0 {
				buf = buf[:batchFixed]
			}
			buf = AppendDraft(buf, &d)
		}
	})
	for name, first := range map[string]uint64{"decode 1000": 0, "decode 1000 numbered": 1 << 60} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			drafts := make([]Draft, 1000)
			for i := range drafts {
				drafts[i] = d
			}
			h := batchHead()
			h.First = first
			data := packed(h, drafts...)
			for b.Loop() {
				if _, err := DecodeBatch(data, drafts[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
