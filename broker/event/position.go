package event

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Position says how far a copy has come and in which history: "everything up to and including Seq of
// the log Log, whose running checksum there is Chain". A bare number cannot tell "behind" from
// "another history"; a Position can. The zero Position means "nothing known".
//
// The position before the first increment of a log is {Log, 0, Genesis(Log)}.
type Position struct {
	Log   LogID  `json:"log"`
	Seq   uint64 `json:"seq"`
	Chain Chain  `json:"chain"`
}

// Zero reports whether nothing is known: a fresh database, or a driver that cannot store a position.
func (p Position) Zero() bool { return p == Position{} }

func (p Position) String() string {
	return fmt.Sprintf("%d (log %s, chain %s)", p.Seq, p.Log, p.Chain)
}

// Chain is the running 64-bit checksum of a log up to one sequence: the first 8 bytes, little-endian, of
// SHA-256(previous chain as 8 bytes little-endian, headers as encoded, payload). It finds accidents and
// divergence, not a forger who owns the disk. Printed as 16 hexadecimal digits.
type Chain uint64

func (c Chain) String() string { return hex16(uint64(c)) }

// MarshalText writes the 16 hexadecimal digits, in JSON as well.
func (c Chain) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText accepts exactly what MarshalText writes.
func (c *Chain) UnmarshalText(b []byte) error { return unhex16(b, (*uint64)(c), "chain") }

// ParseChain reads the 16 hexadecimal digits that Chain.String writes.
func ParseChain(s string) (Chain, error) {
	var c Chain
	return c, c.UnmarshalText([]byte(s))
}

// Genesis is the chain before the first increment of a log, so that two logs never match by chance.
func Genesis(log LogID) Chain {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(log))
	sum := sha256.Sum256(b[:])
	return Chain(binary.LittleEndian.Uint64(sum[:8]))
}

// Start is the position before the first increment of log.
func Start(log LogID) Position { return Position{Log: log, Chain: Genesis(log)} }
