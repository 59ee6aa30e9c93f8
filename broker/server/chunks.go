package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/worker"
)

// chunkService serves the chunks of snapshots: a target puts, a requester gets. Each request is one goroutine, and how
// many there are is bounded: writers of chunks and readers that wait for one have their own limits, so that
// neither can starve the other.
type chunkService struct {
	group   string
	conn    bus.Conn
	staging *dumpflow.Staging
	dump    func(event.DumpID) (dumpflow.Dump, bool)
	post    func(ctx context.Context, id string, in worker.Input) error
	log     *slog.Logger
	took    func(dump event.DumpID, id string, c dumpflow.Chunk, now time.Time) // what was fetched; nil: nobody asks
	puts    chan struct{}
	gets    chan struct{}
	busy    sync.WaitGroup
	ctx     context.Context // ends with the broker
}

// The limits of the chunk service, and how long a reader waits for a chunk before it has to ask again.
const (
	chunkPuts = 16
	chunkGets = 256
	getWait   = 5 * time.Second
)

func newChunkService(ctx context.Context, group string, conn bus.Conn, s *stores, pool *worker.Pool,
	log *slog.Logger) *chunkService {
	return &chunkService{group: group, conn: conn, staging: s.staging, dump: s.state.Dump, post: pool.PostWait, log: log,
		puts: make(chan struct{}, chunkPuts), gets: make(chan struct{}, chunkGets), ctx: ctx}
}

// take begins to serve one message. Without room it answers "not yet", and the node asks again.
func (d *chunkService) take(m bus.Msg) {
	id, ok := event.SubjectID(m.Subject, d.group, event.Snap)
	if !ok || !event.ReplyAllowed(id, m.Reply) {
		d.log.Debug("chunk refused", "subject", m.Subject, "reply", m.Reply)
		return
	}
	e, err := event.Decode(m.Data)
	if err == nil && (e.ID != id || e.Kind != event.SnapReq || e.Group != d.group) {
		err = fmt.Errorf("%s is no chunk of %s", e, id)
	}
	var c dumpflow.Chunk
	if err == nil {
		c, err = dumpflow.DecodeChunk(e.Body)
	}
	if err != nil {
		d.answer(m.Reply, id, e.Dump, dumpflow.ChunkReply{State: event.Fail, Text: err.Error()})
		return
	}
	slots := d.puts
	if c.Op == dumpflow.Get || c.Op == dumpflow.Stat {
		slots = d.gets
	}
	select {
	case slots <- struct{}{}:
	default:
		d.answer(m.Reply, id, e.Dump, dumpflow.ChunkReply{State: event.None, Text: "the broker serves too many chunks at " +
			"once: ask again"})
		return
	}
	d.busy.Go(func() {
		defer func() { <-slots }()
		d.answer(m.Reply, id, e.Dump, d.serve(id, e.Dump, c))
	})
}

func (d *chunkService) answer(reply, id string, dump event.DumpID, a dumpflow.ChunkReply) {
	if err := d.conn.Publish(reply, a.Encode(d.group, id, dump)); err != nil {
		d.log.Debug("answer lost", "client", id, "err", err)
	}
}

// serve checks who may do what, by the stored record, and does it.
func (d *chunkService) serve(id string, dump event.DumpID, c dumpflow.Chunk) dumpflow.ChunkReply {
	fail := func(format string, args ...any) dumpflow.ChunkReply {
		return dumpflow.ChunkReply{State: event.Fail, Text: fmt.Sprintf(format, args...)}
	}
	rec, known := d.dump(dump)
	if !known {
		return fail("DUMP %s is not known (any more)", dump)
	}
	writing := c.Op == dumpflow.Put || c.Op == dumpflow.Seal
	if writing && (rec.Target != id || rec.Phase != dumpflow.Uploading && rec.Phase != dumpflow.Opening &&
		rec.Phase != dumpflow.Sealed) {
		return fail("DUMP %s takes no chunks from %s: it is %s, its target is %s", dump, id, rec.Phase, rec.Target)
	}
	if !writing && !rec.MayRead(id) {
		return fail("DUMP %s is not for %s", dump, id)
	}
	if rec.Phase == dumpflow.Failed {
		return fail("DUMP %s has failed: %s", dump, rec.Error)
	}
	var err error
	switch c.Op {
	case dumpflow.Put:
		if err = d.staging.Create(dump); err == nil {
			err = d.staging.Put(dump, c)
		}
	case dumpflow.Seal:
		return d.seal(id, rec, c.Data)
	default:
		if rec.Phase == dumpflow.Uploading {
			err = d.staging.Create(dump) // a reader may be there before the first chunk
		}
		if err == nil {
			a := d.get(dump, c.Number)
			if c.Op == dumpflow.Get && a.State == event.Succ && d.took != nil {
				d.took(dump, id, a.Chunk, time.Now())
			}
			return a
		}
	}
	if err != nil {
		return fail("%v", err)
	}
	return dumpflow.ChunkReply{State: event.Succ}
}

// seal publishes the manifest, if it names exactly the position at which the snapshot was opened (XD-14), and
// then tells the target's machine.
func (d *chunkService) seal(id string, rec dumpflow.Dump, body []byte) dumpflow.ChunkReply {
	m, err := dumpflow.DecodeManifest(body)
	if err == nil && (m.Pos != rec.Pos || m.Format != rec.Format || m.Target != id) {
		if rec.Phase == dumpflow.Opening { // its "open" has not arrived yet; it is repeated
			return dumpflow.ChunkReply{State: event.None, Text: "the snapshot is not open here yet: ask again"}
		}
		err = fmt.Errorf("the manifest of DUMP %s says %s at %s, opened was %s at %s", rec.ID, m.Format, m.Pos, rec.Format,
			rec.Pos)
	}
	if err == nil && rec.Topics.Known() && event.TopicsOf(m.Topics) != rec.Topics {
		err = fmt.Errorf("the manifest of DUMP %s says topics %s, its target follows %s", rec.ID, event.TopicsOf(m.Topics),
			rec.Topics)
	}
	if err == nil {
		err = d.staging.Create(rec.ID) // a snapshot of no bytes has no chunks
	}
	if err == nil {
		m.Time = time.Now().UnixNano()
		m, err = d.staging.Seal(rec.ID, m)
	}
	if err == nil {
		err = d.post(d.ctx, id, worker.Input{Sealed: &m})
	}
	if err != nil {
		return dumpflow.ChunkReply{State: event.Fail, Text: err.Error()}
	}
	return dumpflow.ChunkReply{State: event.Succ, Chunk: dumpflow.Chunk{Op: dumpflow.Stat, Data: m.Encode()}}
}

func (d *chunkService) get(dump event.DumpID, number uint32) dumpflow.ChunkReply {
	ctx, cancel := context.WithTimeout(d.ctx, getWait)
	defer cancel()
	c, ok, err := d.staging.Get(ctx, dump, number)
	switch {
	case err != nil:
		return dumpflow.ChunkReply{State: event.Fail, Text: err.Error()}
	case !ok:
		return dumpflow.ChunkReply{State: event.None}
	}
	return dumpflow.ChunkReply{State: event.Succ, Chunk: c}
}

// wait waits for requests under way.
func (d *chunkService) wait() { d.busy.Wait() }
