package drivertest

import (
	"time"

	"xmq/broker/event"
)

// Log makes the items a broker would send: consecutive records of one log, with right chains.
type Log struct {
	at event.Position
}

// NewLog begins a log at its start.
func NewLog(id event.LogID) *Log { return &Log{at: event.Start(id)} }

// LogAt goes on with a log after a position.
func LogAt(at event.Position) *Log { return &Log{at: at} }

// At is the position after the last item made.
func (l *Log) At() event.Position { return l.at }

// Next makes one item for each body. Broker time is one second per sequence from 2024 on.
func (l *Log) Next(bodies ...[]byte) []event.Item {
	var items []event.Item
	for _, body := range bodies {
		seq := l.at.Seq + 1
		at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seq) * time.Second)
		record, chain := event.EncodeRecord(nil, seq, at.UnixNano(), l.at.Chain, event.Draft{Body: body})
		l.at = event.Position{Log: l.at.Log, Seq: seq, Chain: chain}
		items = append(items, event.Item{Pos: l.at, Record: record})
	}
	return items
}

// Pass makes one item that moves over n increments of other topics.
func (l *Log) Pass(n uint64) event.Item {
	l.at.Seq += n
	l.at.Chain += event.Chain(n) // any chain but the one before: a pass is believed
	return event.Item{Pos: l.at}
}
