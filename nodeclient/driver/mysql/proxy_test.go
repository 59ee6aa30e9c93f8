package mysql

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest"
)

// proxy counts commands, one per round trip, and can lose the last answer to a script or cut the connection before a
// script arrives.
type proxy struct {
	*servertest.Proxy
	trips  int
	loseOf string // the beginning of the script whose last answer is lost, once
	half   string // the same for its first answer
	cutOn  string // the beginning of the script that does not arrive, once
	armed  bool   // the script with the answer to be lost has gone up
	first  bool
	skip   int    // so many scripts that begin like that pass first
	then   func() // what happens at the cut, besides
	nth    int    // the command that many places ahead, from 1, is cut; 0 is none
	lose   bool   // its last answer, instead of itself
	cuts   int    // so many cuts there were
	meet   string // the beginning of the script that waits until met has run, once
	met    func()
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	conn, err := servertest.NewProxy(server, message, message)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	p := &proxy{Proxy: conn}
	conn.Watch(p.watch)
	return p
}

// message reads one packet: 3 bytes of length, its number, its payload.
func message(r io.Reader, _ bool) ([]byte, error) {
	raw := make([]byte, 4)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	n := int(raw[0]) | int(raw[1])<<8 | int(raw[2])<<16
	raw = append(raw, make([]byte, n)...)
	_, err := io.ReadFull(r, raw[4:])
	return raw, err
}

// starts reports whether a packet is a script that begins with text, which is not empty.
func starts(raw []byte, text string) bool {
	return text != "" && raw[3] == 0 && raw[4] == 3 && strings.HasPrefix(string(raw[5:]), text)
}

func (p *proxy) watch(down bool, raw []byte) (cut bool) {
	const moreResults = 8
	switch {
	case len(raw) < 5:
	case !down:
		if raw[3] == 0 && raw[4] != 1 { // a command, other than the goodbye
			p.trips++
			if p.nth > 0 {
				if p.nth--; p.nth == 0 {
					p.armed, p.first, cut = p.lose, false, !p.lose
				}
			}
		}
		if starts(raw, p.meet) {
			p.meet = ""
			p.met()
		}
		switch {
		case p.skip > 0 && (starts(raw, p.cutOn) || starts(raw, p.loseOf) || starts(raw, p.half)):
			p.skip--
		case starts(raw, p.cutOn):
			p.cutOn, cut = "", true
		case starts(raw, p.loseOf):
			p.loseOf, p.armed, p.first = "", true, false
		case starts(raw, p.half):
			p.half, p.armed, p.first = "", true, true
		}
	case p.armed && (raw[4] == 0 || raw[4] == 0xff || raw[4] == 0xfe && len(raw) < 13): // also the end of rows
		last := p.first || raw[4] == 0xff || raw[4] == 0xfe || len(raw) >= 9 && raw[7]&moreResults == 0
		if cut = last; cut {
			p.armed = false
		}
	}
	if cut {
		p.cuts++
		if p.then != nil {
			p.then()
		}
	}
	return cut
}

// counted is how many round trips f takes.
func (p *proxy) counted(f func()) int { return p.Grows(&p.trips, f) }
