package event

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func fullAnswer() BatchReply {
	a := BatchReply{Log: 7}
	a.Stored(5, false)
	a.Stored(6, false)
	a.Stored(3, true)
	a.Refused("empty", "no body")
	a.Refused("empty", "no body")
	a.Stored(8, false)
	return a
}

// The golden replies hold each kind of run. They may never change.
const (
	goldenAnswer = "01" + "0700000000000000" + "01" + "02000000" + "0500000000000000" + "02" + "01000000" +
		"0300000000000000" +
		"03" + "02000000" + "05" + "656d707479" + "07" + "6e6f20626f6479" + "01" + "01000000" + "0800000000000000" +
		"28cc3db4"
	goldenRefusal = "01" + "0700000000000000" + "04" + "04" + "62757379" + "03" + "747279" + "1b759d54"
)

func TestAnswerGoldenBytes(t *testing.T) {
	a := fullAnswer()
	b := a.Append(nil)
	require.Equal(t, goldenAnswer, hex.EncodeToString(b))
	got, err := DecodeBatchReply(b, 6)
	require.NoError(t, err)
	require.Equal(t, a, got)
	require.Equal(t, []Run{{Count: 2, First: 5}, {Count: 1, First: 3, Duplicate: true},
		{Count: 2, Code: "empty", Text: "no body"}, {Count: 1, First: 8}}, got.Runs)
	whole := BatchReply{Log: 7, Code: "busy", Text: "try"}
	b = whole.Append([]byte("before"))[6:]
	require.Equal(t, goldenRefusal, hex.EncodeToString(b))
	got, err = DecodeBatchReply(b, 6)
	require.NoError(t, err)
	require.Equal(t, whole, got)
}

func TestAnswerCutAtEveryByteIsDamaged(t *testing.T) {
	a := fullAnswer()
	for _, whole := range [][]byte{a.Append(nil), (&BatchReply{Log: 7, Code: "busy", Text: "try"}).Append(nil)} {
		for n := range whole {
			_, err := DecodeBatchReply(whole[:n:n], 6)
			require.ErrorIs(t, err, ErrDamaged, n)
			_, err = DecodeBatchReply(restamped(append([]byte(nil), whole[:n]...)), 6)
			require.ErrorIs(t, err, ErrDamaged, "%d bytes with a right CRC", n)
		}
	}
}

func TestAnswerTellsOfEveryDraftOrIsDamaged(t *testing.T) {
	a := fullAnswer()
	for _, n := range []int{0, 1, 5, 7, MaxDrafts} {
		_, err := DecodeBatchReply(a.Append(nil), n)
		require.ErrorIs(t, err, ErrDamaged, n)
	}
	for name, r := range map[string]Run{"sequence 0": {Count: 6},
		"past the last sequence": {Count: 6, First: math.MaxUint64 - 4}, "no draft": {First: 1}} {
		bad := BatchReply{Log: 7, Runs: []Run{r}}
		_, err := DecodeBatchReply(bad.Append(nil), 6)
		require.ErrorIs(t, err, ErrDamaged, name)
	}
	b := a.Append(nil)
	b[0] = 2
	_, err := DecodeBatchReply(restamped(b), 6)
	require.ErrorIs(t, err, ErrDamaged)
	b[0], b[batchReplyFixed] = 1, 9
	_, err = DecodeBatchReply(restamped(b), 6)
	require.ErrorIs(t, err, ErrDamaged)
}

// The usual reply is a few bytes, and the longest one still travels.
func TestAnswerSize(t *testing.T) {
	usual, worst := BatchReply{Log: 7}, BatchReply{Log: 7}
	for i := range MaxDrafts {
		usual.Stored(uint64(i)+1, false)
		worst.Refused("invalid", string(rune('a'+i%2))+strings.Repeat("x", 1000))
	}
	require.Len(t, usual.Append(nil), 26)
	b := worst.Append(nil)
	require.Less(t, len(b), 2<<20)
	_, err := DecodeBatchReply(b, MaxDrafts)
	require.NoError(t, err)
}

func FuzzAnswer(f *testing.F) {
	a := fullAnswer()
	f.Add(a.Append(nil), 6)
	f.Add((&BatchReply{Log: 7, Code: "busy", Text: "try"}).Append(nil), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		for _, in := range [][]byte{b, restamped(append([]byte(nil), b...))} {
			got, err := DecodeBatchReply(in, min(n, MaxDrafts))
			if err != nil {
				require.ErrorIs(t, err, ErrDamaged)
				continue
			}
			require.Equal(t, in, got.Append(nil))
		}
	})
}
