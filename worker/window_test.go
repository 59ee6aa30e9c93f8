package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"xmq/broker/event"
)

// Whatever is sent, acknowledged, granted and reset: a window says what a list of the frames under way says.
func TestAWindowKnowsWhatIsUnderWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, budget := window{}, NewBudget(1000)
		acked := event.Start(7)
		w.reset(acked)
		var frames []sentFrame
		var full bool
		var maxRecords uint64
		var maxBytes int
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				records, _ := w.left(acked.Seq)
				if records == 0 {
					return // the window is closed
				}
				end := event.Position{Log: 7, Seq: w.sent.Seq + rapid.Uint64Range(1, records).Draw(t, "records")}
				bytes := rapid.IntRange(1, 100).Draw(t, "bytes")
				w.add(end, bytes)
				frames = append(frames, sentFrame{end.Seq, bytes})
			},
			"acknowledge": func(t *rapid.T) {
				acked.Seq = rapid.Uint64Range(acked.Seq, w.sent.Seq).Draw(t, "acked")
				w.ack(acked.Seq)
				for len(frames) > 0 && frames[0].end <= acked.Seq {
					frames = frames[1:]
				}
			},
			"credit": func(t *rapid.T) {
				maxRecords = rapid.Uint64Range(0, 20).Draw(t, "records")
				maxBytes = rapid.IntRange(0, 300).Draw(t, "bytes")
				full = false
				w.grant(maxRecords, maxBytes)
			},
			"fill": func(*rapid.T) {
				full = true
				w.fill()
			},
			"reset": func(*rapid.T) {
				frames, full = nil, false
				w.reset(acked)
			},
			"": func(t *rapid.T) {
				sum := 0
				for _, f := range frames {
					sum += f.bytes
				}
				last := acked.Seq
				if len(frames) > 0 {
					last = frames[len(frames)-1].end
				}
				require.Equal(t, sum, w.bytes)
				require.Equal(t, last, w.sent.Seq)
				require.Equal(t, last-acked.Seq, w.inFlight(acked.Seq))
				records, bytes := w.left(acked.Seq)
				switch {
				case full || last-acked.Seq >= maxRecords:
					require.Zero(t, records)
				default:
					require.Equal(t, maxRecords-(last-acked.Seq), records)
				}
				require.Equal(t, maxBytes-sum, bytes)
				w.charge(budget, true)
				require.EqualValues(t, sum, budget.Bytes())
			},
		})
		w.charge(budget, false)
		require.Zero(t, budget.Bytes(), "nothing is under way to a node that is gone")
	})
}

// An acknowledgement in the middle of a frame frees nothing of it: the node has to keep the frame as a whole.
func TestAFrameIsUnderWayUntilItsLastItemIsAcknowledged(t *testing.T) {
	w := window{}
	w.reset(event.Start(7))
	w.grant(10, 100)
	w.add(event.Position{Log: 7, Seq: 3}, 60)
	w.add(event.Position{Log: 7, Seq: 5}, 30)
	w.ack(4)
	records, bytes := w.left(4)
	require.EqualValues(t, 9, records)
	require.Equal(t, 70, bytes)
}
