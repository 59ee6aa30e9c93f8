package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// chained encodes bodies as the records after from.
func chained(from Position, bodies ...string) (records []Encoded, at Position) {
	at = from
	for _, body := range bodies {
		b, chain := EncodeRecord(nil, at.Seq+1, 7, at.Chain, Draft{Body: []byte(body)})
		records, at = append(records, b), Position{at.Log, at.Seq + 1, chain}
	}
	return records, at
}

func walk(frame []byte, from Position) (items []Item, err error) {
	err = Walk(frame, from, func(i Item) error { items = append(items, i); return nil })
	return items, err
}

// goldenFrame holds each kind of item once. It may never change.
const goldenFrame = "01" + "1f000000" + "0101000000000000000700000000000000" + "0215a0e8" + "fa6a418c0876dacc" +
	"0061" +
	"02" + "0500000000000000" + "0900000000000000" +
	"03" + "27000000" + "0b00000000000000" + "0106000000000000000700000000000000" + "04d3052c" + "0a00000000000000" +
	"0062"

func goldenItems() []byte {
	records, _ := chained(Start(7), "a")
	frame := AppendRecord(nil, records[0])
	frame = AppendSkip(frame, 5, 9)
	return AppendDecision(frame, Reforge(Record{Seq: 6, Time: 7, Chain: 10, Body: []byte("b")}), 11)
}

func TestFrameGoldenBytes(t *testing.T) {
	require.Equal(t, goldenFrame, hex.EncodeToString(goldenItems()))
	b, err := hex.DecodeString(goldenFrame)
	require.NoError(t, err)
	items, err := walk(b, Start(7))
	require.NoError(t, err)
	require.Len(t, items, 3)
	require.Equal(t, "a", string(items[0].Record.Body()))
	require.Equal(t, Item{Pos: Position{7, 5, 9}}, items[1])
	require.Equal(t, "b", string(items[2].Record.Body()))
	require.Equal(t, Position{7, 6, 10}, items[2].Pos)
	require.EqualValues(t, 11, items[2].Decision)
}

func TestFrameCutAtEveryByteIsDamagedOrAWholePrefix(t *testing.T) {
	whole := goldenItems()
	ends := map[int]int{0: 0, 36: 1, 53: 2}
	for n := range whole {
		items, err := walk(whole[:n], Start(7))
		if want, boundary := ends[n]; boundary {
			require.NoError(t, err)
			require.Len(t, items, want)
			continue
		}
		require.ErrorIs(t, err, ErrDamaged, n)
	}
}

func TestFrameRefusesWhatDoesNotFollow(t *testing.T) {
	from := Start(7)
	records, _ := chained(from, "a", "b", "c")
	other, _ := chained(Start(8), "a")
	pass := func(seq uint64) []byte { return AppendSkip(nil, seq, 1) }
	for name, frame := range map[string][]byte{
		"a hole":                 AppendRecord(nil, records[1]),
		"a repetition":           AppendRecord(AppendRecord(nil, records[0]), records[0]),
		"another history":        AppendRecord(nil, other[0]),
		"a pass to where we are": pass(0),
		"a pass back":            append(pass(5), pass(4)...),
		"an item of kind 0":      {0},
		"an item of kind 4":      {4, 0, 0, 0, 0},
		"a record of no bytes":   {itemRecord, 0, 0, 0, 0},
		"a record of 4 GiB":      {itemRecord, 255, 255, 255, 255, 1},
		"a decision with a hole": AppendDecision(nil, records[1], 1),
		"a decision of number 0": AppendDecision(nil, records[0], 0),
		"a decision of no bytes": {itemDecision, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0},
		"a damaged record":       AppendRecord(nil, append(append(Encoded(nil), records[0][:len(records[0])-1]...), 'x')),
	} {
		items, err := walk(frame, from)
		require.ErrorIs(t, err, ErrDamaged, name)
		require.LessOrEqual(t, len(items), 1, name)
	}
}

func TestWalkEndsWithTheCallersError(t *testing.T) {
	records, _ := chained(Start(7), "a", "b")
	mine, calls := errors.New("mine"), 0
	err := Walk(AppendRecord(AppendRecord(nil, records[0]), records[1]), Start(7),
		func(Item) error { calls++; return mine })
	require.ErrorIs(t, err, mine)
	require.Equal(t, 1, calls)
}

func TestFrameWalkIsTheInverseOfAppending(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := Start(LogID(rapid.Uint64().Draw(t, "log")))
		at, frame, want := from, []byte(nil), []Item(nil)
		for range rapid.IntRange(0, 8).Draw(t, "items") {
			item := Item{}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				b, chain := EncodeRecord(nil, at.Seq+1, 1, at.Chain, genDraft().Draw(t, "draft"))
				item = Item{Pos: Position{at.Log, at.Seq + 1, chain}, Record: b}
				frame = AppendRecord(frame, b)
			case 1:
				item.Pos = Position{at.Log, at.Seq + rapid.Uint64Range(1, 1000).Draw(t, "run"),
					Chain(rapid.Uint64().Draw(t, "chain"))}
				frame = AppendSkip(frame, item.Pos.Seq, item.Pos.Chain)
			default:
				r := Record{Seq: at.Seq + 1, Chain: Chain(rapid.Uint64().Draw(t, "chain"))}
				item = Item{Position{at.Log, r.Seq, r.Chain}, Reforge(with(r, "instead")), rapid.Uint64Min(1).Draw(t,
					"decision")}
				frame = AppendDecision(frame, item.Record, item.Decision)
			}
			at, want = item.Pos, append(want, item)
		}
		got, err := walk(frame, from)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(goldenItems())
	f.Add([]byte{itemRecord, 255, 255, 255, 255})
	f.Add([]byte{itemSkip})
	f.Fuzz(func(t *testing.T, b []byte) {
		at := Start(7)
		err := Walk(b, at, func(i Item) error {
			require.Greater(t, i.Pos.Seq, at.Seq)
			require.Equal(t, at.Log, i.Pos.Log)
			if i.Record != nil {
				require.NoError(t, i.Record.Verify())
				require.Equal(t, at.Seq+1, i.Record.Seq())
			}
			at = i.Pos
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
		}
	})
}

// A packed frame holds the very items, shorter; one that would not be shorter stays as it is.
func TestPackedFrames(t *testing.T) {
	pos := Start(7)
	var frame []byte
	for seq := uint64(1); seq <= 50; seq++ {
		record, chain := EncodeRecord(nil, seq, int64(seq), pos.Chain, Draft{Body: []byte("INSERT INTO item VALUES (1, " +
			"'the same text again and again')")})
		pos = Position{7, seq, chain}
		frame = AppendRecord(frame, record)
	}
	packed := Pack([]byte("before"), frame)
	require.Equal(t, "before", string(packed[:6]))
	packed = packed[6:]
	require.Less(t, len(packed), len(frame)*2/3)
	items, err := Unpack(packed, MaxBody)
	require.NoError(t, err)
	require.Equal(t, frame, items)
	require.Equal(t, 50, Count(items))
	same, err := Unpack(frame, MaxBody)
	require.NoError(t, err)
	require.Equal(t, frame, same)
	short := AppendSkip(nil, 9, 1)
	require.Equal(t, short, Pack(nil, short))

	require.ErrorIs(t, Walk(packed, Start(7), func(Item) error { return nil }), ErrDamaged,
		"packed items are not walked over")
	for n := 1; n < len(packed); n++ {
		_, err := Unpack(packed[:n], MaxBody)
		require.ErrorIs(t, err, ErrDamaged, "cut at %d", n)
	}
	for _, bad := range []string{"\x04", "\x04\x05\x00\x00\x00\xff\xff\xff\xff\x0f", "\x04\x01\x00\x00\x00\x05",
		"\x04\xff\xff\xff\xffx"} {
		_, err := Unpack([]byte(bad), MaxBody)
		require.ErrorIs(t, err, ErrDamaged, "%x", bad)
	}
}

func TestGoldenPackedFrame(t *testing.T) {
	packed, err := hex.DecodeString(goldenPacked)
	require.NoError(t, err)
	items, err := Unpack(packed, MaxBody)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("a", 100), string(items))
}

// goldenPacked is 100 times "a", packed when the item was new.
const goldenPacked = "04080000006400611101150053"

// What a frame says of itself costs nothing before it is checked: neither memory for more bytes than there is room for,
// nor more items than its bytes can hold.
func TestAFrameCostsNothingBeforeItIsChecked(t *testing.T) {
	junk := bytes.Repeat([]byte{9, 0, 0, 0, 0}, MaxBody/5)
	packed := Pack(nil, junk)
	require.Less(t, len(packed), len(junk)/10)
	_, err := Unpack(packed, 1<<20)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = Unpack(junk, 1<<20)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = Unpack([]byte{itemRecord}, -1)
	require.ErrorIs(t, err, ErrDamaged)
	require.Zero(t, Count(junk), "no kind of item")
	require.Zero(t, Count(bytes.Repeat([]byte{itemRecord, 0, 0, 0, 0}, 1000)), "a record of no bytes")
	require.Equal(t, 1000, Count(bytes.Repeat(AppendSkip(nil, 0, 0), 1000)))
}

func FuzzUnpack(f *testing.F) {
	f.Add(Pack(nil, bytes.Repeat([]byte("ab"), 500)))
	f.Add([]byte("\x04\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := Unpack(b, MaxBody)
		require.True(t, err == nil || errors.Is(err, ErrDamaged), err)
		require.LessOrEqual(t, len(items), max(MaxBody, len(b)))
		require.LessOrEqual(t, Count(items), len(items)/17)
	})
}
