package bench

import "math/rand/v2"

// payloads is a supply of random bodies, so large that no compressor finds them again.
type payloads struct {
	bytes  []byte
	size   int
	random *rand.ChaCha8
}

func newPayloads(size int, seed uint64) *payloads {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := &payloads{bytes: make([]byte, max(1<<20, 4*size)+61), size: size, random: rand.NewChaCha8(key)}
	_, _ = p.random.Read(p.bytes) // never fails
	return p
}

// body is the i-th payload; it is borrowed and must not be written to.
func (p *payloads) body(i int) []byte {
	at := i * p.size % (len(p.bytes) - p.size) // neighbours share nothing
	return p.bytes[at : at+p.size]
}

// fresh is a payload that never came before; it is borrowed until the next call, and must not be mixed with body.
func (p *payloads) fresh() []byte {
	b := p.bytes[:p.size]
	_, _ = p.random.Read(b) // never fails
	return b
}
