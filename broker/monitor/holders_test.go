package monitor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/statedb"
)

// Who is in the way of retention, and what can be done about it, fits who is there: nobody is told to bring back or
// forget a client that is not known.
func TestTheWayOutFitsWhoIsThere(t *testing.T) {
	for _, c := range []struct {
		known, placed int
		why, out      string
	}{
		{0, 0, "no client is known", "start the nodes"},
		{2, 0, "no client has a copy", "xmq client seek"},
		{2, 1, "", "forget it"},
	} {
		h := Holders{Holders: statedb.Holders{Known: c.known, Placed: c.placed}}
		_, fixed := h.InTheWay(5)
		require.Contains(t, fixed, c.why)
		require.Contains(t, h.wayOut(), c.out)
	}
}
