package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func fullDraft() Draft {
	return Draft{Headers: Headers{Topic: "shop", ContentType: "text/plain", Origin: "till 3", Producer: "p1", Key: "42"},
		Body: []byte("a\x00b\n\xff")}
}

// goldenRecord is fullDraft after the start of log 7, as format 1 writes it. It may never change.
const goldenRecord = "01" + "0100000000000000" + "15cd5b0700000000" + "fb5b1f4a" + "83a27fb6dea549d0" + "05" +
	"01040073686f70" + "020a00746578742f706c61696e" + "03060074696c6c2033" + "0402007031" + "0502003432" + "6100620aff"

func TestRecordGoldenBytes(t *testing.T) {
	b, chain := EncodeRecord(nil, 1, 123456789, Genesis(7), fullDraft())
	require.Equal(t, goldenRecord, hex.EncodeToString(b))
	r, err := Encoded(b).Decode()
	require.NoError(t, err)
	require.Equal(t, Record{Seq: 1, Time: 123456789, Chain: chain, Headers: fullDraft().Headers, Body: fullDraft().Body},
		r)
	require.Equal(t, "shop", string(Encoded(b).Topic()))
	require.Equal(t, "59293ef0c09fe8aa", Genesis(7).String())
}

// with is r with another body.
func with(r Record, body string) Record {
	r.Body = []byte(body)
	return r
}

// A time limit stands after all other headers, where an earlier revision passes it over. These bytes may never change.
func TestRecordLimitGoldenBytes(t *testing.T) {
	for limit, header := range map[time.Duration]string{2 * time.Hour: "07040000dd6d00", NoLimit: "07040000000000"} {
		d := fullDraft()
		d.TextKey, d.Limit = true, limit
		b, chain := EncodeRecord(nil, 1, 123456789, Genesis(7), d)
		want := goldenRecord[29*2+2:len(goldenRecord)-10] + "06010001" + header + "6100620aff"
		require.Equal(t, "07"+want, hex.EncodeToString(b[29:]))
		require.Equal(t, limit, Encoded(b).Limit())
		require.Equal(t, d.Body, Encoded(b).Body())
		r, err := Encoded(b).Decode()
		require.NoError(t, err)
		require.Equal(t, Record{Seq: 1, Time: 123456789, Chain: chain, Headers: d.Headers, Body: d.Body}, r)
	}
	b, _ := EncodeRecord(nil, 1, 123456789, Genesis(7), fullDraft())
	require.Zero(t, Encoded(b).Limit())
}

func TestLimitsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]time.Duration{"none": NoLimit, "0": NoLimit, "0s": NoLimit, "1s": MinLimit,
		"720h": MaxLimit, "2h": 2 * time.Hour, "1.0009s": time.Second} {
		d, err := ParseLimit(text)
		require.NoError(t, err, text)
		require.Equal(t, want, d, text)
		require.NoError(t, CheckLimit(d))
		again, err := ParseLimit(FormatLimit(d))
		require.NoError(t, err, text)
		require.Equal(t, want, again, text)
	}
	for _, text := range []string{"", "-1", "-1s", "1", "999ms", "720h0m1s", "2 h", "forever", "1ns", "0.1ns", "NONE",
		"9999999h"} {
		_, err := ParseLimit(text)
		require.ErrorContains(t, err, "is no time limit: say 1s to 720h0m0s, for example 90s or 2h, or none", text)
	}
	for _, d := range []time.Duration{-2, 1, MinLimit - 1, MaxLimit + 1} {
		require.Error(t, CheckLimit(d))
	}
	require.NoError(t, CheckLimit(0))
	require.Empty(t, FormatLimit(0))
}

// The chain is what doc.go says: SHA-256 over the previous chain and the record from its headers on.
func TestChainIsDocumented(t *testing.T) {
	b, chain := EncodeRecord(nil, 5, 6, 0x0102030405060708, fullDraft())
	sum := sha256.Sum256(append([]byte{8, 7, 6, 5, 4, 3, 2, 1}, b[29:]...))
	require.Equal(t, Chain(binary.LittleEndian.Uint64(sum[:])), chain)
	require.True(t, Encoded(b).Follows(Position{Seq: 4, Chain: 0x0102030405060708}))
	require.False(t, Encoded(b).Follows(Position{Seq: 5, Chain: 0x0102030405060708}), "another sequence")
	require.False(t, Encoded(b).Follows(Position{Seq: 4, Chain: 0x0102030405060709}), "another history")
	require.NotEqual(t, Genesis(1), Genesis(2))
	require.Equal(t, Position{Log: 1, Chain: Genesis(1)}, Start(1))
}

func genDraft() *rapid.Generator[Draft] {
	return rapid.Custom(func(t *rapid.T) Draft {
		s := rapid.StringN(0, 20, 200)
		return Draft{Headers: Headers{Topic: s.Draw(t, "topic"), ContentType: s.Draw(t, "type"), Origin: s.Draw(t, "origin"),
			Producer: s.Draw(t, "producer"), Key: s.Draw(t, "key"), TextKey: rapid.Bool().Draw(t, "text key"),
			Limit: rapid.SampledFrom([]time.Duration{0, 0, NoLimit, MinLimit, 90 * time.Second, MaxLimit}).Draw(t,
				"limit")}, Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body")}
	})
}

func TestRecordDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, prev := genDraft().Draw(t, "draft"), Chain(rapid.Uint64().Draw(t, "chain"))
		seq, at := rapid.Uint64Min(1).Draw(t, "seq"), rapid.Int64().Draw(t, "time")
		b, chain := EncodeRecord([]byte("before"), seq, at, prev, d)
		e := Encoded(b[6:])
		r, err := e.Decode()
		require.NoError(t, err)
		require.Equal(t, Record{Seq: seq, Time: at, Chain: chain, Headers: d.Headers, Body: append([]byte{},
			d.Body...)}, r)
		require.True(t, e.Follows(Position{Seq: seq - 1, Chain: prev}))
		require.Equal(t, d.Topic, string(e.Topic()))
		require.Equal(t, d.Limit, e.Limit())

		other := Encoded(Reforge(with(r, "other")))
		replaced, err := other.Decode()
		require.NoError(t, err)
		r.Body = []byte("other")
		require.Equal(t, r, replaced)
	})
}

func TestRecordCutAtEveryByteIsDamaged(t *testing.T) {
	whole, _ := EncodeRecord(nil, 1, 2, 3, fullDraft())
	for n := range whole {
		_, err := Encoded(whole[:n]).Decode()
		require.ErrorIs(t, err, ErrDamaged, n)
	}
}

func TestRecordEveryFlippedBitIsDamaged(t *testing.T) {
	whole, _ := EncodeRecord(nil, 1, 2, 3, fullDraft())
	for bit := range len(whole) * 8 {
		whole[bit/8] ^= 1 << (bit % 8)
		require.ErrorIs(t, Encoded(whole).Verify(), ErrDamaged, "bit %d", bit)
		whole[bit/8] ^= 1 << (bit % 8)
	}
}

// sealedRecord gives hostile bytes a CRC that fits.
func sealedRecord(b []byte) Encoded {
	if len(b) >= recordFixed {
		binary.LittleEndian.PutUint32(b[17:], recordCRC(b))
	}
	return b
}

func TestRecordHostileHeadersUnderAGoodCRC(t *testing.T) {
	for name, rest := range map[string]string{
		"a count without headers":   "ff",
		"a length past the end":     "01" + "01ffff" + "61",
		"the same header twice":     "02" + "01010061" + "01010062",
		"headers in falling order":  "02" + "02010061" + "01010062",
		"header zero":               "01" + "00010061",
		"a header cut in its fixed": "01" + "0100",
	} {
		b, err := hex.DecodeString("01" + "0100000000000000" + "0000000000000000" + "00000000" + "0000000000000000" + rest)
		require.NoError(t, err)
		_, err = sealedRecord(b).Decode()
		require.ErrorIs(t, err, ErrDamaged, name)
	}
}

// A newer version may add headers: an old node passes over them and keeps the rest.
func TestRecordUnknownHeadersArePassedOver(t *testing.T) {
	b, err := hex.DecodeString("01" + "0100000000000000" + "0000000000000000" + "00000000" + "0000000000000000" + "02" +
		"01010061" + "c8030078797a" + "626f6479")
	require.NoError(t, err)
	r, err := sealedRecord(b).Decode()
	require.NoError(t, err)
	require.Equal(t, "a", r.Topic)
	require.Equal(t, "body", string(r.Body))
}

func TestRecordChecksDoNotAllocate(t *testing.T) {
	from := Start(9)
	b, _ := EncodeRecord(nil, 1, 2, from.Chain, benchDraft())
	frame := AppendRecord(nil, b)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if Encoded(b).Verify() != nil || !Encoded(b).Follows(from) {
			panic("refused")
		}
		if Walk(frame, from, func(Item) error { return nil }) != nil {
			panic("refused")
		}
	}))
}

func FuzzRecordDecode(f *testing.F) {
	b, _ := EncodeRecord(nil, 1, 2, 3, fullDraft())
	f.Add(b)
	b, _ = EncodeRecord(nil, 1, 2, 3, Draft{Body: []byte("x")})
	f.Add(b)
	f.Add(make([]byte, recordFixed+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range []Encoded{b, sealedRecord(append([]byte(nil), b...))} {
			r, err := in.Decode()
			if err != nil {
				require.ErrorIs(t, err, ErrDamaged)
				continue
			}
			require.Equal(t, r.Topic, string(in.Topic()))
			again, err := Encoded(Reforge(r)).Decode()
			require.NoError(t, err)
			require.Equal(t, r, again)
		}
	})
}
