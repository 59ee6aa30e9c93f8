package drivertest

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// tick is how often a test looks for what must come; patience says how long.
const tick = 5 * time.Millisecond

// Server is the private server of a test.
type Server interface {
	Kill() error
	Run() error
}

// Node is an open database for the tests that several drivers share, with what they must say in its language. A field
// that a test does not name in its comment may be left out.
type Node struct {
	*testing.T
	nodeclient.Database // as it is open now
	Log                 *Log

	Make, Add string        // increments: make a counter that says 0, and add one to it
	Count     func() string // what the counter says, read as another client does

	Server Server
	// Other opens the same database as the node "other", which waits only a moment for the lock.
	Other func() (nodeclient.Database, error)
	// Holder is what the server shows of the lock: a session, or the value of a key; "" while nobody holds it.
	Holder func() string
	// EndLock ends the lock, as an administrator or a lost connection would.
	EndLock func()
	// Named is what every refusal says of the node "other"; "" where the server shows no names.
	Named string
}

func (n *Node) at() event.Position {
	n.Helper()
	return At(n.T, n.Database, n.Log)
}

func (n *Node) feed(scripts ...string) {
	n.Helper()
	Feed(n.T, n.Database, n.Log, scripts...)
}

// settles applies items as an agent would: again as long as the trouble may pass.
func (n *Node) settles(before event.Position, items []event.Item) {
	n.Helper()
	for end := time.Now().Add(2 * patience); len(items) > 0; {
		require.True(n, time.Now().Before(end), "it comes to no end")
		before, items, _ = n.some(before, items)
	}
}

// some applies up to 20 of the items as an agent would, and says whether trouble came.
func (n *Node) some(at event.Position, items []event.Item) (event.Position, []event.Item, bool) {
	n.Helper()
	if len(items) == 0 {
		return at, items, true
	}
	pos, err := n.Apply(context.Background(), at, items[:min(20, len(items))])
	if err != nil {
		require.True(n, nodeclient.IsTransient(err), err)
	}
	for len(items) > 0 && items[0].Pos.Seq <= pos.Seq {
		items = items[1:]
	}
	return pos, items, err != nil
}

// KilledUnderLoad applies total increments while the server is killed and started again so many times, and returns
// when all of them are applied. It needs Server.
func (n *Node) KilledUnderLoad(total, times int, body func(k int) string) {
	n.Helper()
	at, killed := n.at(), 0
	var queue []event.Item
	for k := range total {
		queue = append(queue, n.Log.Scripts(body(k))...)
	}
	started := make(chan error, 1)
	for len(queue) > 0 {
		if done := total - len(queue); killed < times && done >= total/(times+1)*(killed+1) {
			killed++
			go func() { // while increments are on their way
				_ = n.Server.Kill() // it may be gone already
				started <- n.Server.Run()
			}()
			for gone := false; !gone; { // until an Apply meets the dead server, or all is applied
				at, queue, gone = n.some(at, queue)
			}
			require.NoError(n, <-started)
		}
		at, queue, _ = n.some(at, queue)
	}
	require.Equal(n, times, killed)
	require.Equal(n, at, n.at())
}

// GivenUpStatementIsEnded applies an increment that takes an hour and gives it up: the server must not go on with it,
// and nothing of it is there. It needs Make and Count.
func (n *Node) GivenUpStatementIsEnded(long string) {
	n.Helper()
	n.feed(n.Make)
	before, items := n.at(), n.Log.Scripts(long)
	ctx, stop := context.WithTimeout(n.Context(), time.Second)
	defer stop()
	_, err := n.Apply(ctx, before, items)
	require.True(n, nodeclient.IsTransient(err), err)
	items[0].Record = nil
	_, err = n.Apply(n.Context(), before, items)
	require.NoError(n, err, "nobody holds the place")
	require.Equal(n, "0", n.Count())
}

// PlaceIsNobodyElses applies increments that change the table of the position by ways that words hide: each is a FAIL,
// and the node goes on. Then drop takes the table away, as a person would: the node ends with nodeclient.ErrGone, of
// which a session tells its broker. It needs Make and Add.
func (n *Node) PlaceIsNobodyElses(drop func(), hidden ...string) {
	n.Helper()
	n.feed(n.Make)
	for _, script := range hidden {
		require.Error(n, Fails(n.T, n.Database, n.Log, 1, n.Add, script))
		n.feed(n.Add)
	}
	before := n.at()
	drop()
	_, err := n.Apply(n.Context(), before, n.Log.Scripts(n.Add))
	require.ErrorIs(n, err, nodeclient.ErrGone)
	require.True(n, nodeclient.IsTransient(err), err)
}

// Numbers reads one number from each row.
func Numbers(t *testing.T, rows []string) (numbers []uint64) {
	t.Helper()
	for _, row := range rows {
		k, err := strconv.ParseUint(row, 10, 64)
		require.NoError(t, err)
		numbers = append(numbers, k)
	}
	return numbers
}

// EveryByte is the bytes 0 to 255 in hex.
func EveryByte() string {
	b := strings.Builder{}
	for i := range 256 {
		fmt.Fprintf(&b, "%02x", i)
	}
	return b.String()
}

// NameOf is the name of a database that belongs to a folder of the suite.
func NameOf(dir string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(dir)) // a hash never fails
	return fmt.Sprintf("d%016x", h.Sum64())
}
