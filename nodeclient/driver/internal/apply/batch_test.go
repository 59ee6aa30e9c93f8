package apply

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

// However many parts a batch is prepared in, the steps stand in order and end before the first item that cannot be
// read.
func TestPrepareEndsBeforeTheFirstBadItem(t *testing.T) {
	for _, n := range []int{1, 2, 63, 64, 65, 128, 1000, 1001} {
		items := log(n)
		for _, bad := range [][]int{nil, {0}, {n / 2}, {n - 1}, {n / 3, n / 2, n - 1}} {
			first := n
			steps, err := Prepare("test", event.Position{}, items, func(body []byte) (string, error) {
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

// steps are n steps whose work is their number.
func steps(t *testing.T, n int) []Step[string] {
	all, err := Prepare("test", event.Position{}, log(n), func(body []byte) (string, error) { return string(body), nil })
	require.NoError(t, err)
	return all
}

// What precedes a failing step is applied again, and the step is believed only when it fails alone.
func TestAFailingStepIsBelievedAlone(t *testing.T) {
	steps := steps(t, 9)
	start, bad := event.Start(7), errors.New("bad")
	passing := nodeclient.Transient(bad)
	for _, c := range []struct {
		err   error
		at    int  // index of the step that fails, 9 for none
		tell  int  // where it is told to be
		alone bool // it fails alone too
		calls []int
		done  int // steps that are durable
	}{
		{bad, 9, 9, false, []int{9}, 9},
		{bad, 4, 4, true, []int{9, 4, 1}, 4},
		{bad, 4, 4, false, []int{9, 4, 1, 4}, 9},
		{bad, 0, 0, true, []int{9, 1}, 0},
		{bad, 0, 0, false, []int{9, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 9},
		{bad, 2, 2, false, []int{9, 2, 1, 2, 2, 2}, 9},
		{Said("53200", bad), 4, 4, true, []int{9, 4, 1}, 4},
		{Said("53200", bad), 4, Unknown, true, []int{9, 4, 5, 2, 1}, 4},
		{passing, 4, 4, true, []int{9}, 0},
		{nodeclient.Fatal(bad), 4, 4, true, []int{9}, 0},
		{ErrAlone, 4, 0, false, []int{9, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 9},
	} {
		var calls []int
		pos, err := Apply(start, steps, nil, &Patience{}, nil,
			func(before event.Position, part []Step[string]) (event.Position, *Failure) {
				calls = append(calls, len(part))
				from := int(part[0].Pos.Seq) - 1
				if from <= c.at && c.at < from+len(part) && (len(part) > 1 || c.alone) {
					tell := c.tell
					if tell != Unknown {
						tell -= from
					}
					return before, Fail(max(tell, Unknown), c.err)
				}
				return part[len(part)-1].Pos, nil
			})
		require.Equal(t, c.calls, calls, "%v", c)
		require.Equal(t, c.done < 9, err != nil, "%v", c)
		want := start
		if c.done > 0 {
			want = steps[c.done-1].Pos
		}
		require.Equal(t, want, pos, "%v", c)
	}
}

// A step that must be alone ends the transaction before it, and begins another after it.
func TestAStepThatMustBeAloneIsATransactionOfItsOwn(t *testing.T) {
	var calls []int
	alone := func(w *string) bool { return *w == "3" || *w == "4" || *w == "8" }
	pos, err := Apply(event.Start(7), steps(t, 9), nil, &Patience{}, alone,
		func(_ event.Position, part []Step[string]) (event.Position, *Failure) {
			calls = append(calls, len(part))
			return part[len(part)-1].Pos, nil
		})
	require.NoError(t, err)
	require.EqualValues(t, 9, pos.Seq)
	require.Equal(t, []int{3, 1, 1, 3, 1}, calls)
}

// An answer that an increment alone gets again and again becomes its FAIL, but only while the position can be written.
func TestTheSameAnswerAgainAndAgainIsAFailWhileThePositionCanBeWritten(t *testing.T) {
	var p Patience
	steps, writable, code := steps(t, 3), false, "40001"
	try := func() error {
		pos, err := Apply(event.Start(7), steps, nil, &p, nil,
			func(before event.Position, part []Step[string]) (event.Position, *Failure) {
				switch {
				case part[0].Pos == before && writable: // the probe: nothing but the position
					return before, nil
				case part[0].Pos == before:
					return before, Fail(0, nodeclient.Transient(errors.New("read only")))
				}
				return before, Fail(0, Said(code, errors.New("increment 1: raised")))
			})
		require.Equal(t, event.Start(7), pos)
		return err
	}
	for range 3 * Tries {
		require.True(t, nodeclient.IsTransient(try()), "the database takes nothing at all")
	}
	writable = true
	err := try()
	require.False(t, nodeclient.IsTransient(err) || nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "increment 1: raised; it was tried alone 5 times")

	for i := range 4 * Tries { // an operator retries; the answers differ
		code = fmt.Sprint(i % 2)
		require.True(t, nodeclient.IsTransient(try()))
	}
	for range Tries - 1 {
		code = "0"
		require.True(t, nodeclient.IsTransient(try()))
	}
	require.False(t, nodeclient.IsTransient(try()), "counted anew after the FAIL")
}
