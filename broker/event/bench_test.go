package event

import "testing"

// benchDraft is an increment of the common size.
func benchDraft() Draft {
	return Draft{Headers: Headers{Topic: "shop", ContentType: "application/sql", Producer: "p1", Key: "42"},
		Body: make([]byte, 512)}
}

func BenchmarkEncodeRecord(b *testing.B) {
	b.ReportAllocs()
	d, buf, chain := benchDraft(), make([]byte, 0, 1024), Chain(7)
	for b.Loop() {
		buf, chain = EncodeRecord(buf[:0], 1, 2, chain, d)
	}
}

func BenchmarkVerifyAndFollows(b *testing.B) {
	b.ReportAllocs()
	from := Start(9)
	e, _ := EncodeRecord(nil, 1, 2, from.Chain, benchDraft())
	for b.Loop() {
		if Encoded(e).Verify() != nil || !Encoded(e).Follows(from) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkWalk walks over frames of 100 records.
func BenchmarkWalk(b *testing.B) {
	b.ReportAllocs()
	from := Start(9)
	var frame, record []byte
	chain := from.Chain
	for seq := range uint64(100) {
		record, chain = EncodeRecord(record[:0], seq+1, 2, chain, benchDraft())
		frame = AppendRecord(frame, record)
	}
	for b.Loop() {
		n := 0
		if err := Walk(frame, from, func(Item) error { n++; return nil }); err != nil || n != 100 {
			b.Fatal(n, err)
		}
	}
}
