package increments

import (
	"fmt"

	"xmq/broker/event"
)

// Lookup is a View of a Reader: what a machine will ask is looked up before it steps. It is for one goroutine.
type Lookup struct {
	log Reader
	at  []found
}

type found struct {
	seq uint64
	pos event.Position
	err error
}

// NewLookup returns a view of log that knows no position but the head.
func NewLookup(log Reader) *Lookup { return &Lookup{log: log} }

// Look forgets what was looked up before and looks up the positions at seqs. It may block for reading one record each.
func (v *Lookup) Look(seqs []uint64) {
	v.at = v.at[:0]
	for _, seq := range seqs {
		pos, err := v.log.Position(seq)
		v.at = append(v.at, found{seq, pos, err})
	}
}

// First implements View.
func (v *Lookup) First() uint64 { return v.log.First() }

// Head implements View.
func (v *Lookup) Head() event.Position { return v.log.Head() }

// Position implements View. What was not looked up is answered ErrLater.
func (v *Lookup) Position(seq uint64) (event.Position, error) {
	if head := v.log.Head(); seq == head.Seq {
		return head, nil // which may have moved there since
	}
	for _, f := range v.at {
		if f.seq == seq {
			return f.pos, f.err
		}
	}
	return event.Position{}, fmt.Errorf("position at %d: %w: it was not looked up before", seq, ErrLater)
}
