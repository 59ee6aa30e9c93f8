package external

import (
	"context"
	"fmt"
	"io"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/snapstream"
)

// Hooks is one program of a driver. Its errors are classed by nodeclient.Transient and Fatal. An outcome that is
// not known is Transient: the same comes again.
type Hooks interface {
	// Apply hands over the increment r; pos is the position after it. Outside the order that is the increment's own
	// where the program stores no position, and the stored one, which stays, where it does; outside tells the program,
	// which must not take it for an old one. An outcome that is not known is Unknown.
	Apply(ctx context.Context, pos event.Position, r event.Record, outside bool) error
	// Dump begins to read the copy, which stands at pos. What it returns ends with io.EOF only when everything was
	// read; Close ends it early and may come twice. ctx ends the beginning, and nothing after it.
	Dump(ctx context.Context, pos event.Position) (io.ReadCloser, error)
	// Load does one step of a load.
	Load(ctx context.Context, s Step) error
	// Empty reports whether the live copy holds nothing.
	Empty(ctx context.Context) (bool, error)
}

// Keeper is a program that stores its position itself.
type Keeper interface {
	// Position is what it has stored; zero when nothing. Fatal: what it says is no position.
	Position(ctx context.Context) (event.Position, error)
	// Seek stores pos.
	Seek(ctx context.Context, pos event.Position) error
}

// Step is one step of a load.
type Step struct {
	Op   string
	Pos  event.Position // of a load or switch
	Body io.Reader      // of a load: what Dump read on the other node
}

// The steps of a load.
const (
	Discard = "discard" // remove what an unfinished load has left
	Load    = "load"    // put Body beside the live copy and verify it
	Switch  = "switch"  // make it the live copy, as one step
)

// Options say what a program can do.
type Options struct {
	Driver string            // begins errors: "exec"
	Format snapstream.Format // of snapshots, without preface
	Keeper Keeper            // nil: it stores no position
	Dumps  bool
	Loads  bool
	Online bool // what Dump has begun to read does not change any more
}

// Database implements nodeclient.Database on Hooks. Methods are called one at a time; a Snapshot is read meanwhile.
type Database struct {
	hooks   Hooks
	options Options
	pos     event.Position // of the last item applied; zero until the first Seek of a process that cannot ask
}

var _ nodeclient.Database = (*Database)(nil)

// New makes a Database and removes what an unfinished load has left. Its error is Transient.
func New(ctx context.Context, h Hooks, o Options) (*Database, error) {
	t := &Database{hooks: h, options: o}
	if o.Loads {
		return t, t.discard(ctx)
	}
	return t, nil
}

// wrap puts the driver's name and what was done before err, whose class stays.
func (t *Database) wrap(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", t.options.Driver, what, err)
}

// Stateless reports that nothing but the broker knows how far this copy is: increments are applied at least once.
func (t *Database) Stateless() bool { return t.options.Keeper == nil }

// Limit is how long the run or request for r may take: timeout, unless the increment names a limit of its own, which
// may be event.NoLimit. nil stands for a call that is about no increment.
func Limit(r *event.Record, timeout time.Duration) time.Duration {
	if r != nil && r.Limit != 0 {
		return r.Limit
	}
	return timeout
}

// LimitsApply reports that an increment has a time limit already, after which it comes again: its outcome is not
// known then.
func (t *Database) LimitsApply() bool { return true }

// BatchLimit implements nodeclient.BatchLimiter: a run of a program or a request takes milliseconds, so this many are
// reported after a second or so, also on a busy machine.
func (t *Database) BatchLimit() int { return 50 }

// Position implements nodeclient.Database. Without a Keeper it is what Seek and Apply of this process have left.
func (t *Database) Position(ctx context.Context) (event.Position, error) {
	if t.options.Keeper == nil {
		return t.pos, nil
	}
	pos, err := t.options.Keeper.Position(ctx)
	if err != nil {
		return event.Position{}, t.wrap("ask for the position", err)
	}
	t.pos = pos
	return pos, nil
}

// Apply implements nodeclient.Database. Each increment is durable by itself.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	if t.pos.Zero() { // nobody has asked yet
		if _, err := t.Position(ctx); err != nil {
			return t.pos, err
		}
	}
	if err := nodeclient.CheckAdvance(t.pos, before); err != nil {
		return t.pos, err
	}
	for i, item := range items {
		if err := t.step(ctx, item, i == len(items)-1); err != nil {
			return before, err
		}
		t.pos, before = item.Pos, item.Pos
	}
	return before, nil
}

// step applies one item. A pass is told only where a batch ends: what the next increment stores lies after it anyway.
func (t *Database) step(ctx context.Context, item event.Item, last bool) error {
	if item.Record == nil {
		if last {
			return t.store(ctx, item.Pos)
		}
		return nil
	}
	what := fmt.Sprint("increment ", item.Pos.Seq)
	r, err := item.Record.Decode()
	if err != nil {
		return t.wrap(what, err)
	}
	pos, outside := item.Pos, item.Pos == t.pos
	if outside {
		what = fmt.Sprint("increment ", r.Seq)
	}
	if outside && t.options.Keeper == nil {
		pos = event.Position{Log: item.Pos.Log, Seq: r.Seq, Chain: r.Chain}
	}
	err = t.hooks.Apply(ctx, pos, r, outside)
	if err == nil {
		return nil
	}
	if t.options.Keeper != nil && nodeclient.IsTransient(err) && !outside { // it may be stored: ask, do not guess
		if now, ask := t.options.Keeper.Position(context.WithoutCancel(ctx)); ask == nil && now == item.Pos {
			return nil
		}
	}
	return t.wrap(what, err)
}

// store puts a position in the place of the stored one, if there is one.
func (t *Database) store(ctx context.Context, pos event.Position) error {
	if t.options.Keeper == nil {
		return nil
	}
	if err := t.options.Keeper.Seek(ctx, pos); err != nil {
		return t.wrap(fmt.Sprint("store the position ", pos.Seq), err)
	}
	return nil
}

// Seek implements nodeclient.Database.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	if err := t.store(ctx, pos); err != nil {
		return err
	}
	t.pos = pos
	return nil
}

// Topics implements nodeclient.Database: the broker alone remembers them.
func (t *Database) Topics(context.Context) (event.Topics, error) { return "", nil }

// Keep implements nodeclient.Database, and keeps nothing.
func (t *Database) Keep(context.Context, event.Topics) error { return nil }

// Empty implements nodeclient.Database. A copy that cannot be loaded is never empty.
func (t *Database) Empty(ctx context.Context) (bool, error) {
	if !t.options.Loads {
		return false, nil
	}
	empty, err := t.hooks.Empty(ctx)
	if err != nil {
		return false, t.wrap("ask whether the copy is empty", err)
	}
	return empty, nil
}

// Unsure reports that nobody can tell whether the copy is empty.
func (t *Database) Unsure() bool { return !t.options.Loads }

// CheckSpace implements nodeclient.Database: the program knows its place, nobody else does.
func (t *Database) CheckSpace(context.Context, int64) error { return nil }

// Close implements nodeclient.Database.
func (t *Database) Close() error { return nil }
