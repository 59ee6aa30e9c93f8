package event

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// full is an event in which every field says something.
func full() Event {
	return Event{Kind: DumpRep, State: Succ, Code: Opened, Group: "main", ID: "node1", Peer: "master",
		Session: Session{Instance: 0x0102030405060708, Turn: 9}, Pos: Position{0x1112131415161718, 42, 0x2122232425262728},
		Dump: 0x3132333435363738, Request: 0x4142434445464748, CreditRecords: 100, CreditBytes: 1 << 20, LeaseMS: 5000,
		Text: "text", Body: []byte{0, 10, 255}}
}

// goldenEvent is full as format 1 writes it. It may never change: a newer format gets another number.
const goldenEvent = "584d010401" + "1e" + "0000" + "0807060504030201" + "09000000" +
	"1817161514131211" + "2a00000000000000" + "2827262524232221" + "3837363534333231" + "4847464544434241" +
	"64000000" + "00001000" + "88130000" + "046d61696e" + "056e6f646531" + "066d6173746572" +
	"040074657874" + "03000000000aff" + "20362d19"

func TestEventGoldenBytes(t *testing.T) {
	e := full()
	require.Equal(t, goldenEvent, hex.EncodeToString(e.Append(nil)))
	b, err := hex.DecodeString(goldenEvent)
	require.NoError(t, err)
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, full(), got)
}

// goldenToken is full with a session's token, as format 2 writes it. It may never change either.
const goldenToken = "584d020401" + "1e" + "0000" + "0807060504030201" + "09000000" +
	"1817161514131211" + "2a00000000000000" + "2827262524232221" + "3837363534333231" + "4847464544434241" +
	"64000000" + "00001000" + "88130000" + "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" + "046d61696e" + "056e6f646531" +
	"066d6173746572" +
	"040074657874" + "03000000000aff" + "3cef23e4"

// goldenClock is goldenToken with a time of the log, as format 3 writes it. It may never change either.
const goldenClock = "584d030401" + "1e" + "0000" + "0807060504030201" + "09000000" +
	"1817161514131211" + "2a00000000000000" + "2827262524232221" + "3837363534333231" + "4847464544434241" +
	"64000000" + "00001000" + "88130000" + "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" + "5857565554535251" + "046d61696e" +
	"056e6f646531" + "066d6173746572" +
	"040074657874" + "03000000000aff" + "ce94eeb2"

// A time of the log makes an event one of format 3, which nobody gets who has not asked for it; without a token it is
// not said.
func TestEventWithATimeOfTheLogGoldenBytes(t *testing.T) {
	e := full()
	e.Clock = 0x5152535455565758
	require.Equal(t, goldenEvent, hex.EncodeToString(e.Append(nil)))
	for i := range e.Session.Token {
		e.Session.Token[i] = 0xa0 + byte(i)
	}
	b := e.Append(nil)
	require.Equal(t, goldenClock, hex.EncodeToString(b))
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, e, got)
	require.Contains(t, got.String(), "clock=")
	for n := range b {
		_, err := Decode(restamped(slices.Clone(b[:n])))
		require.ErrorIs(t, err, ErrDamaged, n)
	}
	for _, clock := range []int64{0, -1} {
		bad := slices.Clone(b)
		binary.LittleEndian.PutUint64(bad[88:], uint64(clock))
		_, err := Decode(restamped(bad))
		require.ErrorIs(t, err, ErrDamaged)
	}
}

// A session's token makes an event one of format 2; without one it is of the first format, which nodes of the first
// revision speak.
func TestEventWithATokenGoldenBytes(t *testing.T) {
	e := full()
	for i := range e.Session.Token {
		e.Session.Token[i] = 0xa0 + byte(i)
	}
	b := e.Append(nil)
	require.Equal(t, goldenToken, hex.EncodeToString(b))
	got, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, e, got)
	for n := range b {
		_, err := Decode(restamped(slices.Clone(b[:n])))
		require.ErrorIs(t, err, ErrDamaged, n)
	}
	clear(b[72:88])
	_, err = Decode(restamped(b))
	require.ErrorIs(t, err, ErrDamaged, "one way to write an event")
}

// A token is shown by nothing that prints a session or an event.
func TestATokenIsNotShown(t *testing.T) {
	s := Session{Instance: 1, Turn: 2, Token: Token{0xab, 0xcd}}
	e := Event{Kind: IncrReq, Session: s}
	for _, text := range []string{s.String(), e.String(), fmt.Sprint(s, e), fmt.Sprintf("%+v %#v %s", s, s, s.Token),
		fmt.Sprintf("%v", s.Token)} {
		require.NotContains(t, text, "abcd")
		require.NotContains(t, text, "171")
	}
	b, err := json.Marshal(s)
	require.NoError(t, err)
	var back Session
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, s, back)
	require.NoError(t, json.Unmarshal([]byte(`{"Instance":"0000000000000001","Turn":2}`), &back),
		"a record of the first revision")
	for _, bad := range []string{"", "00", strings.Repeat("G", 32), strings.Repeat("A", 32), strings.Repeat("0", 34)} {
		require.Error(t, new(Token).UnmarshalText([]byte(bad)), bad)
	}
}

func genID() *rapid.Generator[string] { return rapid.StringMatching(`([a-z0-9][a-z0-9-]{0,30})?`) }

func genPosition() *rapid.Generator[Position] {
	return rapid.Custom(func(t *rapid.T) Position {
		return Position{LogID(rapid.Uint64().Draw(t, "log")), rapid.Uint64().Draw(t, "seq"),
			Chain(rapid.Uint64().Draw(t, "chain"))}
	})
}

func TestEventDecodeIsTheInverseOfAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Event{
			Kind: Kind(rapid.IntRange(1, 6).Draw(t, "kind")), State: State(rapid.IntRange(0, 3).Draw(t, "state")),
			Code:  Code(rapid.Byte().Draw(t, "code")),
			Group: genID().Draw(t, "group"), ID: genID().Draw(t, "id"), Peer: genID().Draw(t, "peer"),
			Session: Session{Instance(rapid.Uint64().Draw(t, "instance")), rapid.Uint32().Draw(t, "turn"),
				Token{rapid.Byte().Draw(t, "token")}}, Pos: genPosition().Draw(t, "pos"),
			Dump: DumpID(rapid.Uint64().Draw(t, "dump")), Request: RequestID(rapid.Uint64().Draw(t, "request")),
			CreditRecords: rapid.Uint32().Draw(t, "records"), CreditBytes: rapid.Uint32().Draw(t, "bytes"),
			LeaseMS: rapid.Uint32().Draw(t, "lease"),
			Text:    rapid.StringN(0, 100, MaxText).Draw(t, "text"),
		}
		if body := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(body) > 0 {
			e.Body = body
		}
		prefix := []byte("before")
		b := e.Append(prefix)
		require.Equal(t, "before", string(b[:6]))
		got, err := Decode(b[6:])
		require.NoError(t, err)
		require.Equal(t, e, got)
	})
}

// resealed repairs the CRC of a hostile event, so that the checks after it are reached.
func resealed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[len(b)-4:], CRC32C(b[:len(b)-4]))
	return b
}

func TestEventCutAtEveryByteIsDamaged(t *testing.T) {
	e := full()
	whole := e.Append(nil)
	for n := range whole {
		_, err := Decode(whole[:n])
		require.ErrorIs(t, err, ErrDamaged, n)
		if n >= 4 { // also with a CRC that fits
			_, err = Decode(resealed(append([]byte(nil), whole[:n]...)))
			require.ErrorIs(t, err, ErrDamaged, n)
		}
	}
	_, err := Decode(resealed(append(whole, 0, 0)))
	require.ErrorIs(t, err, ErrDamaged)
}

func TestEventEveryFlippedBitIsDamaged(t *testing.T) {
	e := full()
	whole := e.Append(nil)
	for bit := range len(whole) * 8 {
		whole[bit/8] ^= 1 << (bit % 8)
		_, err := Decode(whole)
		require.ErrorIs(t, err, ErrDamaged, "bit %d", bit)
		whole[bit/8] ^= 1 << (bit % 8)
	}
}

// A good CRC does not make lengths true. An ID length of 255 once ended the process.
func TestEventHostileLengthsUnderAGoodCRC(t *testing.T) {
	e := full()
	e.Body = make([]byte, 4096)
	whole := e.Append(nil)
	change := func(at int, b ...byte) []byte {
		c := append([]byte(nil), whole...)
		copy(c[at:], b)
		return resealed(c)
	}
	text := fixedLen + 1 + 4 + 1 + 5 + 1 + 6
	body := text + 2 + 4
	for name, b := range map[string][]byte{
		"version 2":         change(2, 2),
		"kind 0":            change(3, 0),
		"kind 7":            change(3, 7),
		"state 4":           change(4, 4),
		"reserved":          change(6, 1),
		"group of 255":      change(fixedLen, 255),
		"group of 32":       change(fixedLen, 32),
		"group with a dot":  change(fixedLen+1, '.'),
		"text of 65535":     change(text, 255, 255),
		"text above limit":  change(text, 0x01, 0x10),
		"body of 4 GiB":     change(body, 255, 255, 255, 255),
		"body one too long": change(body, 0x01, 0x10, 0, 0),
		"body too short":    change(body, 0xff, 0x0f, 0, 0),
	} {
		_, err := Decode(b)
		require.ErrorIs(t, err, ErrDamaged, name)
	}
}

func TestEventRefusalAllocatesLittle(t *testing.T) {
	e := full()
	b := resealed(append([]byte(nil), e.Append(nil)...))
	binary.LittleEndian.PutUint32(b[len(b)-4-3-4:], 1<<31)
	resealed(b)
	require.Less(t, testing.AllocsPerRun(100, func() { _, _ = Decode(b) }), 12.0)
}

func TestEventIsLaidOutInOnePiece(t *testing.T) {
	var b []byte
	once := testing.AllocsPerRun(1, func() { b = slices.Grow(b[:0:0], 100) }) // more than 1 under the race detector
	for n := range 1000 {
		e := Event{Kind: IncrRep, Group: "main", ID: "n1", Peer: "n2", Text: "why", Body: make([]byte, n)}
		least := math.Inf(1)
		for try := 0; try < 10 && least > once; try++ { // the runtime may allocate beside us
			least = min(least, testing.AllocsPerRun(1, func() { b = e.Append(nil) }))
		}
		require.Equal(t, once, least, n)
	}
}

func TestEventTextIsCutBetweenCharacters(t *testing.T) {
	for shift := range 4 {
		e := Event{Kind: IncrReq, Text: strings.Repeat("x", shift) + strings.Repeat("\U0001F600", MaxText)}
		got, err := Decode(e.Append(nil))
		require.NoError(t, err)
		require.True(t, utf8.ValidString(got.Text))
		require.NotContains(t, got.Text, "\uFFFD")
		require.LessOrEqual(t, len(got.Text), MaxText)
		require.Greater(t, len(got.Text), MaxText-utf8.UTFMax)
		require.True(t, strings.HasPrefix(e.Text, got.Text))
	}
}

func TestEventTextIsValidAndBoundedAfterDecode(t *testing.T) {
	e := Event{Kind: IncrReq, Text: strings.Repeat("a\xff", MaxText/2)}
	got, err := Decode(e.Append(nil))
	require.NoError(t, err)
	require.True(t, utf8.ValidString(got.Text))
	require.LessOrEqual(t, len(got.Text), MaxText)
	again, err := Decode(got.Append(nil))
	require.NoError(t, err)
	require.Equal(t, got, again)
}

func TestEventIDLongerThanMaxIDPanics(t *testing.T) {
	e := Event{Kind: IncrReq, ID: strings.Repeat("a", MaxID+1)}
	require.Panics(t, func() { e.Append(nil) })
}

func TestEventString(t *testing.T) {
	require.Equal(t, `DUMP_REP/SUCC code=opened id=node1 peer=master session=0102030405060708.9 pos=42 `+
		`dump=3132333435363738 request=4142434445464748 credit=100/1048576B lease=5000 body=3B text="text"`, full().String())
	require.Equal(t, "KIND_9/STATE_9 code=code_255", Event{Kind: 9, State: 9, Code: 255}.String())
	require.Equal(t, "code_29", Code(29).String(), "a number nobody uses")
	require.Equal(t, "abandoned", Abandoned.String())
	require.Equal(t, "-", NoCode.String())
}

func FuzzEvent(f *testing.F) {
	e := full()
	f.Add(e.Append(nil))
	f.Add((&Event{Kind: IncrReq}).Append(nil))
	f.Add([]byte("XM"))
	f.Add(append(make([]byte, fixedLen), 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range [][]byte{b, append(append([]byte("XM\x01\x01\x00\x00\x00\x00"), b...), 0, 0, 0, 0)} {
			if len(in) >= 4 {
				in = resealed(append([]byte(nil), in...))
			}
			got, err := Decode(in)
			if err != nil {
				require.ErrorIs(t, err, ErrDamaged)
				continue
			}
			again, err := Decode(got.Append(nil))
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	})
}
