package event

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// The three lives that make repetition harmless, and the name of one request for a DUMP. Each is 64 random bits drawn
// by its owner (crypto/rand), printed as 16 hexadecimal digits; zero means "none" or "unknown" and is never drawn.
type (
	// LogID is the life of a log: drawn by the broker when it creates an empty log, never changed.
	LogID uint64
	// DumpID is the life of one DUMP. Its bits are those of the request that started it (RequestID.Dump).
	DumpID uint64
	// RequestID is one request of a node for a DUMP. The requester repeats it until it is answered; several requests,
	// of several nodes, can be served by one DUMP.
	RequestID uint64
	// Instance is the life of one node process.
	Instance uint64
)

// Token is what a node process proves itself by within its sessions: 128 random bits drawn by it (crypto/rand), which
// it and the broker alone know. The zero Token is none: that of a node of the first revision. It is stored and sent,
// and never shown.
type Token [16]byte

// Zero reports whether t is none.
func (t Token) Zero() bool { return t == Token{} }

// String and GoString show nothing of it, in whatever it is printed with.
func (t Token) String() string   { return "(token)" }
func (t Token) GoString() string { return t.String() }

// MarshalText writes 32 hexadecimal digits, in JSON as well: for the state store alone.
func (t Token) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (t *Token) UnmarshalText(b []byte) error {
	var n Token
	if len(b) != 2*len(n) || strings.ToLower(string(b)) != string(b) {
		return fmt.Errorf("a session's token is not %d lower-case hexadecimal digits", 2*len(n))
	}
	if _, err := hex.Decode(n[:], b); err != nil {
		return fmt.Errorf("a session's token is not %d lower-case hexadecimal digits", 2*len(n))
	}
	*t = n
	return nil
}

// Session names one conversation of a node with the broker: a node process, which shows its token in it, and a counter
// that grows by one each time that process opens a conversation. The zero Session is no session.
type Session struct {
	Instance Instance
	Turn     uint32 // from 1; a lower turn of the same instance is stale
	Token    Token  `json:",omitzero"`
}

// Zero reports whether s is no session.
func (s Session) Zero() bool { return s == Session{} }

// String names s for people: the process and the turn, without the token.
func (s Session) String() string { return fmt.Sprintf("%016x.%d", uint64(s.Instance), s.Turn) }

func (l LogID) String() string     { return hex16(uint64(l)) }
func (d DumpID) String() string    { return hex16(uint64(d)) }
func (r RequestID) String() string { return hex16(uint64(r)) }
func (i Instance) String() string  { return hex16(uint64(i)) }

// MarshalText writes the 16 hexadecimal digits, in JSON as well.
func (l LogID) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// MarshalText writes the 16 hexadecimal digits, in JSON as well.
func (d DumpID) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText writes the 16 hexadecimal digits, in JSON as well.
func (r RequestID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText writes the 16 hexadecimal digits, in JSON as well.
func (i Instance) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (l *LogID) UnmarshalText(b []byte) error { return unhex16(b, (*uint64)(l), "log ID") }

// UnmarshalText accepts exactly what MarshalText writes.
func (d *DumpID) UnmarshalText(b []byte) error { return unhex16(b, (*uint64)(d), "dump ID") }

// UnmarshalText accepts exactly what MarshalText writes.
func (r *RequestID) UnmarshalText(b []byte) error { return unhex16(b, (*uint64)(r), "request ID") }

// Dump is the DUMP that this request starts, when none serves it yet.
func (r RequestID) Dump() DumpID { return DumpID(r) }

// UnmarshalText accepts exactly what MarshalText writes.
func (i *Instance) UnmarshalText(b []byte) error { return unhex16(b, (*uint64)(i), "instance") }

// ParseLogID reads the 16 hexadecimal digits that LogID.String writes.
func ParseLogID(s string) (LogID, error) {
	var l LogID
	return l, l.UnmarshalText([]byte(s))
}

// ParseDumpID reads the 16 hexadecimal digits that DumpID.String writes.
func ParseDumpID(s string) (DumpID, error) {
	var d DumpID
	return d, d.UnmarshalText([]byte(s))
}

func hex16(v uint64) string { return fmt.Sprintf("%016x", v) }

func unhex16(b []byte, v *uint64, what string) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || hex16(n) != string(b) {
		return fmt.Errorf("%s %q is not 16 lower-case hexadecimal digits", what, clip(b, 40))
	}
	*v = n
	return nil
}

// MaxID is the longest client ID, producer name or group, in bytes.
const MaxID = 31

// MaxTopic is the longest topic in bytes.
const MaxTopic = 63

// named reports whether s has 1 to most bytes of a-z, 0-9 and, after the first one, of more. It is asked for each
// increment.
func named(s, more string, most int) bool {
	if len(s) == 0 || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && strings.IndexByte(more, c) >= 0) {
			return false
		}
	}
	return true
}

// CheckID reports, as one sentence, why s cannot name a client, a producer or a group: the one grammar
// at every entrance is 1 to 31 lower-case letters, digits and hyphens, no hyphen first. Rule: XD-17.
func CheckID(s string) error {
	if !named(s, "-", MaxID) {
		return fmt.Errorf("ID %q is not allowed: use 1 to %d lower-case letters, digits and hyphens, not starting with a "+
			"hyphen", clip([]byte(s), 40), MaxID)
	}
	return nil
}

// CheckTopic reports, as one sentence, why s cannot be a topic: 1 to 63 lower-case letters, digits,
// dots, underscores and hyphens, starting with a letter or digit.
func CheckTopic(s string) error {
	if !named(s, "._-", MaxTopic) {
		return fmt.Errorf("topic %q is not allowed: use 1 to 63 lower-case letters, digits, dots, underscores and "+
			"hyphens, starting with a letter or digit", clip([]byte(s), 70))
	}
	return nil
}

// clip cuts hostile input so that it can stand in an error or a log line.
func clip(b []byte, n int) []byte {
	if len(b) > n {
		return append(append([]byte{}, b[:n]...), "..."...)
	}
	return b
}
