package batch

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// log makes items whose bodies are their numbers; every tenth is a pass.
func log(n int) (items []event.Item) {
	at := event.Start(7)
	for i := range n {
		record, chain := event.EncodeRecord(nil, at.Seq+1, int64(i+1), at.Chain, event.Draft{Body: fmt.Append(nil, i)})
		at = event.Position{Log: 7, Seq: at.Seq + 1, Chain: chain}
		if i%10 == 9 {
			record = nil
		}
		items = append(items, event.Item{Pos: at, Record: record})
	}
	return items
}

// However many parts a batch is prepared in, the steps stand in order and end before the first item that cannot be read.
func TestPrepareEndsBeforeTheFirstBadItem(t *testing.T) {
	for _, n := range []int{1, 2, 63, 64, 65, 128, 1000, 1001} {
		items := log(n)
		for _, bad := range [][]int{nil, {0}, {n / 2}, {n - 1}, {n / 3, n / 2, n - 1}} {
			first := n
			steps, err := Prepare("test", items, func(body []byte) (string, error) {
				for _, b := range bad {
					if string(body) == fmt.Sprint(b) {
						return "", errors.New("bad")
					}
				}
				return string(body), nil
			})
			for _, b := range bad {
				if items[b].Record != nil {
					first = min(first, b)
				}
			}
			require.Len(t, steps, first, "%d items, bad %v", n, bad)
			if first < n {
				require.EqualError(t, err, fmt.Sprintf("test: increment %d: bad", items[first].Pos.Seq))
			} else {
				require.NoError(t, err)
			}
			for i, s := range steps {
				require.Equal(t, items[i].Pos, s.Pos)
				if items[i].Record != nil {
					require.Equal(t, fmt.Sprint(i), s.Work)
					require.EqualValues(t, i+1, s.Time)
				}
			}
		}
	}
}

// Apply replays exactly what precedes the failing step, once.
func TestApplyReplaysUpToTheFailingStep(t *testing.T) {
	steps, err := Prepare("test", log(9), func(body []byte) (string, error) { return string(body), nil })
	require.NoError(t, err)
	var calls []int
	transact := func(fail *Failure) Transact[string] {
		return func(before event.Position, part []Step[string]) (event.Position, *Failure) {
			calls = append(calls, len(part))
			if fail != nil && fail.At < len(part) {
				return before, fail
			}
			return part[len(part)-1].Pos, nil
		}
	}
	start, bad := event.Start(7), errors.New("bad")
	for _, c := range []struct {
		fail  *Failure
		calls []int
		at    int // steps that are durable
	}{
		{nil, []int{9}, 9}, {Fail(4, bad), []int{9, 4}, 4}, {Fail(0, bad), []int{9}, 0},
		{Fail(4, nodeclient.Transient(bad)), []int{9}, 0}, {Fail(4, nodeclient.Fatal(bad)), []int{9}, 0},
	} {
		calls = nil
		pos, err := Apply(start, steps, nil, transact(c.fail))
		require.Equal(t, c.calls, calls)
		require.Equal(t, c.fail != nil, err != nil)
		want := start
		if c.at > 0 {
			want = steps[c.at-1].Pos
		}
		require.Equal(t, want, pos)
	}
}
