package bench

import "math/rand/v2"

// payloads is a supply of random bodies, so large that no compressor finds them again.
type payloads struct {
	bytes []byte
	size  int
}

func newPayloads(size int, seed uint64) *payloads {
	p := &payloads{bytes: make([]byte, max(1<<20, 4*size)), size: size}
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(p.bytes) // never fails
	return p
}

// body is the i-th payload; it is borrowed and must not be written to.
func (p *payloads) body(i int) []byte {
	at := i * 61 % (len(p.bytes) - p.size)
	return p.bytes[at : at+p.size]
}
