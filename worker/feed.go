package worker

import (
	"fmt"

	"xmq/broker/event"
)

// Reader is the log as a worker reads it.
type Reader interface {
	Log
	// Read returns consecutive records from sequence from on: at most maxRecords and about maxBytes, but at
	// least one when there is one. They are shared: nobody writes into them.
	Read(from uint64, maxRecords, maxBytes int) ([]event.Encoded, error)
}

// frame reads what f asks for and appends the frame to dst. Increments of other topics and the one an
// operator skipped become passes: the node's position moves over them and their bodies are not sent.
// It returns the position behind the last item.
func frame(dst []byte, log Reader, f *Feed) ([]byte, event.Position, error) {
	records, err := log.Read(f.From.Seq+1, f.MaxRecords, f.MaxBytes)
	if err != nil {
		return dst, f.From, err
	}
	end, passed := f.From, false
	flush := func() {
		if passed {
			dst = event.AppendPass(dst, end.Seq, end.Chain)
			passed = false
		}
	}
	for _, e := range records {
		o := f.Override
		switch {
		case o != nil && o.Seq == e.Seq() && !o.Skip:
			flush()
			r, err := e.Decode()
			if err != nil {
				return dst, end, fmt.Errorf("replace increment %d: %w", o.Seq, err)
			}
			dst = event.AppendReplace(dst, event.Reforge(r, o.Body))
		case o != nil && o.Seq == e.Seq(), !event.Wants(f.Topics, e.Topic()):
			passed = true
		default:
			flush()
			dst = event.AppendRecord(dst, e)
		}
		end = event.Position{Log: end.Log, Seq: e.Seq(), Chain: e.Chain()}
	}
	flush()
	return dst, end, nil
}
