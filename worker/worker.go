package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xmq/broker/event"
	"xmq/dumpflow"
	"xmq/increments"
	"xmq/statedb"
)

// Env is what workers are given of the world. All functions may be called from all workers at once.
type Env struct {
	Log  Reader
	Now  func() time.Time
	Tick time.Duration // how long one tick is
	// Save makes the batch durable before it returns nil. An error stops the worker, and with it the broker.
	Save func(*statedb.Batch) error
	// SaveEvery is how long a moved acked position may wait for its save.
	SaveEvery time.Duration
	// Send hands an event to the network. It never waits for a receiver and may lose the event; it has
	// copied everything when it returns.
	Send func(*event.Event)
	// Forgotten returns what is still known of the processes of a client whose record is gone; false for nothing.
	Forgotten func(id string) (statedb.Forgotten, bool)
	// Discard frees the staging of a dump. It waits for what is being written there, not for the removal.
	Discard func(event.DumpID)
}

// InboxSize is how many inputs wait at a worker before events are dropped (their senders repeat them).
const InboxSize = 4096

// roundTurns is how many turns are given before the inbox is looked at again.
const roundTurns = 64

// Worker is one goroutine (Run) that serves many machines in turns.
type Worker struct {
	number int
	rules  *Rules
	env    *Env
	route  func(to string, in Input)

	inbox chan message
	wake  chan struct{} // one slot: "the head moved"

	tasks   map[string]*task
	queue   []*task // runnable, in order; each at most once
	waiting []*task // runnable again when the head moves
	lagging []*task // their record is to be saved soon
	save    *time.Timer
	frames  frameCache
	view    *increments.Lookup // of the log, for the machine that steps
	asks    []uint64           // what it may ask, to be used again
	tokens  map[uint64]chan<- OrderReply
	token   uint64
}

type task struct {
	machine                  *Machine
	id                       string
	queued, waiting, lagging bool
	later                    bool // what it needs of the log could not be read: not before the next tick
}

// message is one thing in the inbox: an input for id, or a question.
type message struct {
	id     string
	in     Input
	answer chan<- OrderReply // of an order
	views  chan<- []View     // a question: all views, or the one of id
}

func newWorker(number int, rules *Rules, env *Env, route func(string, Input)) *Worker {
	return &Worker{number: number, rules: rules, env: env, route: route, view: increments.NewLookup(env.Log),
		inbox: make(chan message, InboxSize), wake: make(chan struct{}, 1),
		tasks: map[string]*task{}, tokens: map[uint64]chan<- OrderReply{}}
}

// restore adds a stored client before Run.
func (w *Worker) restore(id string, stored *statedb.Client, dumps []dumpflow.Dump) {
	w.tasks[id] = w.newTask(id, stored, dumps)
}

func (w *Worker) newTask(id string, stored *statedb.Client, dumps []dumpflow.Dump) *task {
	t := &task{id: id, machine: NewMachine(w.rules, id, stored, dumps)}
	if stored == nil && w.env.Forgotten != nil {
		if f, there := w.env.Forgotten(id); there {
			t.machine.Remember(f)
		}
	}
	return t
}

// Run serves until ctx ends, then saves what lags and returns nil; or until a save fails, and returns that.
func (w *Worker) Run(ctx context.Context) error {
	tick := time.NewTicker(w.env.Tick)
	defer tick.Stop()
	w.save = time.NewTimer(time.Hour)
	w.save.Stop()
	defer w.save.Stop()
	for {
		if err := w.turnOver(ctx, tick.C); err != nil || ctx.Err() != nil {
			if err != nil {
				return err
			}
			return w.saveLagging()
		}
	}
}

// turnOver waits for something to happen (unless somebody is runnable), takes it, and gives turns.
func (w *Worker) turnOver(ctx context.Context, tick <-chan time.Time) error {
	var idle chan struct{} // closed when somebody is runnable: then nothing waits
	if len(w.queue) > 0 {
		idle = closed
	}
	select {
	case <-ctx.Done():
		return nil
	case l := <-w.inbox:
		w.take(l)
		for range min(len(w.inbox), InboxSize/4) {
			w.take(<-w.inbox)
		}
	case <-w.wake:
		for _, t := range w.waiting {
			t.waiting = false
			w.enqueue(t)
		}
		w.waiting = w.waiting[:0]
	case <-tick:
		now := w.now()
		for _, t := range w.tasks {
			t.machine.Tick(now)
			if !t.machine.Quiet() || t.machine.Idle() || t.later {
				t.later = false
				w.enqueue(t)
			}
		}
	case <-w.save.C:
		if err := w.saveLagging(); err != nil {
			return err
		}
	case <-idle:
	}
	return w.round()
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (w *Worker) now() int64 { return w.env.Now().UnixNano() }

func (w *Worker) enqueue(t *task) {
	if !t.queued {
		t.queued = true
		w.queue = append(w.queue, t)
	}
}

func (w *Worker) take(l message) {
	if l.views != nil {
		l.views <- w.views(l.id)
		return
	}
	t := w.tasks[l.id]
	if t == nil {
		t = w.newTask(l.id, nil, nil)
		w.tasks[l.id] = t
	}
	if l.in.Order != nil && l.answer != nil {
		w.token++
		l.in.Order.Token = w.token
		w.tokens[w.token] = l.answer
	}
	w.asks = t.machine.Asks(l.in, w.asks[:0])
	w.view.Look(w.asks)
	t.machine.Step(l.in, w.view, w.now())
	w.enqueue(t)
}

// round gives one turn to each of the first runnable tasks. What they want saved goes into one batch, which
// is durable before anything they want sent leaves.
func (w *Worker) round() error {
	n := min(len(w.queue), roundTurns)
	if n == 0 {
		return nil
	}
	turn := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	head := w.env.Log.Head()
	works := make([]Work, n)
	var batch statedb.Batch
	for i, t := range turn {
		t.queued = false
		works[i] = t.machine.Ready(head)
		collect(&batch, t.id, &works[i])
		if works[i].Lag {
			w.lags(t)
		}
	}
	if err := w.env.Save(&batch); err != nil {
		return err
	}
	for i, t := range turn {
		w.deliver(&works[i])
		if f := works[i].Feed; f != nil && !t.later {
			if err := w.feed(t, f); err != nil {
				return err
			}
		} else if t.machine.Waiting() && !t.waiting && !t.later {
			t.waiting = true
			w.waiting = append(w.waiting, t)
		}
		if t.machine.Idle() && !t.queued && !t.waiting && !t.lagging {
			delete(w.tasks, t.id)
		}
	}
	return nil
}

// collect puts what must be durable into the batch.
func collect(b *statedb.Batch, id string, w *Work) {
	if w.Gone {
		if w.Forgotten != nil {
			f := *w.Forgotten
			f.Time = w.At
			b.Forget(f)
		} else {
			b.DeleteClient(id)
		}
	}
	if w.Save != nil {
		b.PutClient(*w.Save)
	}
	for _, d := range w.Dumps {
		b.PutDump(d)
	}
	for _, d := range w.DropDumps {
		b.DeleteDump(d)
	}
	for _, a := range w.Raise {
		b.Raise(a)
	}
	for _, key := range w.Clear {
		b.Clear(key, w.At)
	}
	for _, a := range w.Audit {
		b.Audit(a)
	}
	for _, e := range w.Events {
		b.Event(e)
	}
}

func (w *Worker) deliver(work *Work) {
	for i := range work.Send {
		w.env.Send(&work.Send[i])
	}
	for _, r := range work.Route {
		w.route(r.To, r.In)
	}
	for _, a := range work.Replies {
		if c := w.tokens[a.Token]; c != nil {
			delete(w.tokens, a.Token)
			c <- a // has room for the one answer
		}
	}
	for _, d := range work.Discard {
		w.env.Discard(d)
	}
}

// feed reads one turn's worth of increments and sends it. Whoever may want more is runnable again; whose increments
// cannot be read now, at the next tick. Increments that are trimmed or set aside are the client's trouble alone. An
// error is the end of the broker.
func (w *Worker) feed(t *task, f *Feed) error {
	err := w.frames.build(w.env.Log, f)
	switch c := &w.frames; {
	case final(err):
		t.machine.Lost(err.Error(), w.now())
	case errors.Is(err, increments.ErrLater):
		t.later = true
		return nil
	case err != nil:
		return fmt.Errorf("feed client %s: %w", t.id, err)
	case c.end.Seq > f.From.Seq:
		e := t.machine.Fed(c.end, c.body) // the window counts what the node has to keep
		if f.Pack {
			e.Body = c.pack()
		}
		w.env.Send(&e)
	case c.needs != 0:
		t.machine.Hold(c.needs, w.now())
	default:
		t.machine.Full()
	}
	w.enqueue(t)
	return nil
}

func (w *Worker) lags(t *task) {
	if t.lagging {
		return
	}
	t.lagging = true
	if w.lagging = append(w.lagging, t); len(w.lagging) == 1 {
		w.save.Reset(w.env.SaveEvery)
	}
}

// saveLagging writes all moved positions in one batch.
func (w *Worker) saveLagging() error {
	var b statedb.Batch
	for _, t := range w.lagging {
		t.lagging = false
		if c, known := t.machine.Record(); known {
			b.PutClient(c)
		}
	}
	w.lagging = w.lagging[:0]
	if err := w.env.Save(&b); err != nil {
		return err
	}
	return nil
}

func (w *Worker) views(id string) []View {
	var all []View
	tasks := w.tasks
	if id != "" {
		tasks = map[string]*task{}
		if t := w.tasks[id]; t != nil {
			tasks[id] = t
		}
	}
	head, now := w.env.Log.Head(), w.now()
	lags := map[uint64]float64{} // seconds, by position: thousands may stand at one that is on the disk only
	for _, t := range tasks {
		if !t.machine.known {
			continue
		}
		v := t.machine.View(head)
		v.Worker = w.number
		v.Rate /= w.env.Tick.Seconds()
		if v.Lag != nil {
			v.LagSeconds = new(float64)
		}
		if v.Lag != nil && *v.Lag > 0 {
			lag, known := lags[v.Acked]
			if !known {
				lag = -1
				if next, err := w.env.Log.Read(v.Acked+1, 1, 1); err == nil && len(next) > 0 {
					lag = max(0, float64(now-next[0].Time())/1e9)
				}
				lags[v.Acked] = lag
			}
			if *v.LagSeconds = lag; lag < 0 {
				v.LagSeconds = nil
			}
		}
		all = append(all, v)
	}
	return all
}
