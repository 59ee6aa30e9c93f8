package event

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Version is the format number of encoded events that say a time of the log, for nodes that ask for it (Hello.Clock).
// TokenVersion is that of all others; FirstVersion is that of events without a session's token, as nodes of the first
// revision say and hear them.
const (
	Version      = 3
	TokenVersion = 2
	FirstVersion = 1
)

// Limits of an encoded event, in bytes. A longer Text is cut when it is encoded.
const (
	MaxText  = 4096
	MaxBody  = 16 << 20
	fixedLen = 72
	tokenLen = 16 // after the fixed part, from format 2 on
	clockLen = 8  // after the token, in format 3
)

// Event is everything that nodes and broker say to each other. Which fields mean something depends on
// Kind, State and Code: the table stands in doc.go. A zero field is not said.
//
// ID is always the client at the node's end of the conversation: the speaker on the way up, the one
// spoken to on the way down. On the way up the receiver has it from the subject and refuses an event that
// says otherwise.
type Event struct {
	Kind  Kind
	State State
	Code  Code

	Group   string
	ID      string
	Peer    string // DUMP: the other node. From a requester its target; to a target its requester
	Session Session
	Pos     Position
	Dump    DumpID    // the dump's life
	Request RequestID // the requester's own id for its DUMP request

	CreditRecords uint32 // window: increments the node takes beyond Pos
	CreditBytes   uint32 // window: bytes of records the node takes beyond Pos
	// LeaseMS are milliseconds. INCR_REQ, for people, 0 of nodes of earlier builds: Retrying, in how long the next try
	// comes; Slow, how long the database has been at it.
	// DUMP: until the sender must hear again; INCR_REP without increments: so long a node may be silent, 0 for as usual
	LeaseMS uint32
	// Clock is a time of the log in ns since 1970, in an INCR_REP: every increment after its frame, or after Pos
	// where it has none, has this time or a later one. 0 says nothing; an event of a session without a token does not
	// say it.
	Clock int64
	Text  string // for people; valid UTF-8 after Decode
	Body  []byte // INCR_REQ/NONE and DUMP_REQ: Hello; INCR_REP: frame; SNAP_*: chunk
}

// Append appends e, encoded, to dst, copying Text and Body; in the first format when its session has no token, so that
// whoever speaks that is answered in it, and in the second one when it says no time of the log. The speaker keeps Body
// within MaxBody: Decode refuses more. IDs longer than MaxID cannot occur (CheckID) and make it panic.
func (e *Event) Append(dst []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, fixedLen+tokenLen+clockLen+len(e.Group)+len(e.ID)+len(e.Peer)+min(len(e.Text),
		MaxText)+len(e.Body)+3+2+4+4)
	le := binary.LittleEndian
	version := byte(Version)
	switch {
	case e.Session.Token.Zero():
		version = FirstVersion
	case e.Clock == 0:
		version = TokenVersion
	}
	dst = append(dst, 'X', 'M', version, byte(e.Kind), byte(e.State), byte(e.Code), 0, 0)
	dst = le.AppendUint64(dst, uint64(e.Session.Instance))
	dst = le.AppendUint32(dst, e.Session.Turn)
	dst = le.AppendUint64(dst, uint64(e.Pos.Log))
	dst = le.AppendUint64(dst, e.Pos.Seq)
	dst = le.AppendUint64(dst, uint64(e.Pos.Chain))
	dst = le.AppendUint64(dst, uint64(e.Dump))
	dst = le.AppendUint64(dst, uint64(e.Request))
	dst = le.AppendUint32(dst, e.CreditRecords)
	dst = le.AppendUint32(dst, e.CreditBytes)
	dst = le.AppendUint32(dst, e.LeaseMS)
	if version >= TokenVersion {
		dst = append(dst, e.Session.Token[:]...)
	}
	if version == Version {
		dst = le.AppendUint64(dst, uint64(e.Clock))
	}
	for _, s := range [...]string{e.Group, e.ID, e.Peer} {
		if len(s) > MaxID {
			panic("event: ID longer than MaxID")
		}
		dst = append(dst, byte(len(s)))
		dst = append(dst, s...)
	}
	text := cutText(e.Text)
	dst = le.AppendUint16(dst, uint16(len(text)))
	dst = append(dst, text...)
	dst = le.AppendUint32(dst, uint32(len(e.Body)))
	dst = append(dst, e.Body...)
	return le.AppendUint32(dst, CRC32C(dst[start:]))
}

// Decode reads what Append wrote. Body is borrowed from b. Every length is checked before it is used and
// nothing is allocated for what is not there. Non-empty IDs are checked by CheckID, kind and state must
// be known; codes are left to the receiver. The error wraps ErrDamaged.
func Decode(b []byte) (Event, error) {
	bad := func(format string, args ...any) (Event, error) {
		return Event{}, fmt.Errorf("event: "+format+": %w", append(args, ErrDamaged)...)
	}
	le := binary.LittleEndian
	if len(b) < fixedLen+3+2+4+4 {
		return bad("%d bytes are too few", len(b))
	}
	if b[0] != 'X' || b[1] != 'M' {
		return bad("does not begin with XM")
	}
	withToken := fixedLen // where the token ends
	fixed := fixedLen
	switch b[2] {
	case FirstVersion:
	case TokenVersion:
		withToken += tokenLen
		fixed = withToken
	case Version:
		withToken += tokenLen
		fixed = withToken + clockLen
	default:
		return bad("format %d is not known to this version (%d)", b[2], Version)
	}
	if len(b) < fixed+3+2+4+4 {
		return bad("%d bytes are too few", len(b))
	}
	if CRC32C(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return bad("wrong CRC")
	}
	e := Event{
		Kind: Kind(b[3]), State: State(b[4]), Code: Code(b[5]),
		Session: Session{Instance: Instance(le.Uint64(b[8:])), Turn: le.Uint32(b[16:]),
			Token: token(b[fixedLen:withToken])},
		Pos:           Position{LogID(le.Uint64(b[20:])), le.Uint64(b[28:]), Chain(le.Uint64(b[36:]))},
		Dump:          DumpID(le.Uint64(b[44:])),
		Request:       RequestID(le.Uint64(b[52:])),
		CreditRecords: le.Uint32(b[60:]), CreditBytes: le.Uint32(b[64:]), LeaseMS: le.Uint32(b[68:]),
	}
	if e.Kind < IncrReq || e.Kind > SnapRep {
		return bad("unknown kind %d", b[3])
	}
	if e.State > Fatal {
		return bad("unknown state %d", b[4])
	}
	if b[6] != 0 || b[7] != 0 {
		return bad("reserved bytes are not zero")
	}
	if b[2] >= TokenVersion && e.Session.Token.Zero() {
		return bad("format %d without a session's token", b[2])
	}
	if b[2] == Version {
		if e.Clock = int64(le.Uint64(b[withToken:])); e.Clock <= 0 {
			return bad("format %d with the time %d", Version, e.Clock)
		}
	}
	rest := b[fixed : len(b)-4]
	for _, s := range [...]*string{&e.Group, &e.ID, &e.Peer} {
		if len(rest) < 1 || int(rest[0]) > min(MaxID, len(rest)-1) {
			return bad("cut inside an ID, or ID too long")
		}
		n := 1 + int(rest[0])
		*s, rest = string(rest[1:n]), rest[n:]
		if *s != "" && CheckID(*s) != nil {
			return bad("%v", CheckID(*s))
		}
	}
	if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) || le.Uint16(rest) > MaxText {
		return bad("cut inside the text, or text too long")
	}
	n := int(le.Uint16(rest))
	e.Text = cutText(strings.ToValidUTF8(string(rest[2:2+n]), "\uFFFD"))
	rest = rest[2+n:]
	if len(rest) < 4 || uint64(len(rest)-4) != uint64(le.Uint32(rest)) || len(rest)-4 > MaxBody {
		return bad("body length does not fit")
	}
	if body := rest[4:]; len(body) > 0 {
		e.Body = body
	}
	return e, nil
}

// token reads the token of later formats; none of the first one.
func token(b []byte) (t Token) {
	copy(t[:], b)
	return t
}

// cutText cuts s to MaxText bytes, between two characters.
func cutText(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > MaxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// String is the event as tests, logs and people read it: only what is said.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", e.Kind, e.State)
	add := func(name string, said bool, v any) {
		if said {
			fmt.Fprintf(&b, " %s=%v", name, v)
		}
	}
	add("code", e.Code != NoCode, e.Code)
	add("id", e.ID != "", e.ID)
	add("peer", e.Peer != "", e.Peer)
	add("session", !e.Session.Zero(), e.Session)
	add("pos", !e.Pos.Zero(), e.Pos.Seq)
	add("dump", e.Dump != 0, e.Dump)
	add("request", e.Request != 0, e.Request)
	add("credit", e.CreditRecords != 0, fmt.Sprintf("%d/%dB", e.CreditRecords, e.CreditBytes))
	add("lease", e.LeaseMS != 0, e.LeaseMS)
	add("clock", e.Clock != 0, e.Clock)
	add("body", len(e.Body) > 0, fmt.Sprintf("%dB", len(e.Body)))
	add("text", e.Text != "", fmt.Sprintf("%q", e.Text))
	return b.String()
}
