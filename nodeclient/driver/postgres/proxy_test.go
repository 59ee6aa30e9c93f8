package postgres

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest"
)

// proxy counts the server's answers, one per round trip, and can lose the answer of a commit or cut the connection
// before a commit arrives.
type proxy struct {
	*servertest.Proxy
	trips  int    // ReadyForQuery messages
	loseOf string // the command whose completion is lost, once
	cutOn  string // the beginning of the query that does not arrive, once
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	conn, err := servertest.NewProxy(server, message,
		func(r io.Reader, _ bool) ([]byte, error) { return message(r, false) })
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	p := &proxy{Proxy: conn}
	conn.Watch(p.watch)
	return p
}

// message reads one message; the first of a client has no kind.
func message(r io.Reader, first bool) ([]byte, error) {
	head := 5
	if first {
		head = 4
	}
	raw := make([]byte, head)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(raw[head-4:])) - 4
	raw = append(raw, make([]byte, n)...)
	_, err := io.ReadFull(r, raw[head:])
	return raw, err
}

func (p *proxy) watch(down bool, raw []byte) (cut bool) {
	switch {
	case !down:
		if cut = p.cutOn != "" && string(raw[5:min(len(raw), 5+len(p.cutOn))]) == p.cutOn; cut {
			p.cutOn = ""
		}
	case raw[0] == 'Z':
		p.trips++
	case p.loseOf != "" && raw[0] == 'C' && string(raw[5:len(raw)-1]) == p.loseOf:
		p.loseOf, cut = "", true
	}
	return cut
}

// counted is how many round trips f takes.
func (p *proxy) counted(f func()) int { return p.Grows(&p.trips, f) }
