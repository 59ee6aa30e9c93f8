package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// step is one item of a batch, ready to run.
type step struct {
	pos        event.Position // after it
	statements []statement
	alone      bool  // it may say what happens at the commit only
	time       int64 // broker time of the increment; 0 for a pass
}

// failure is a failing step: the FAIL of its increment, or trouble that ends the batch.
type failure struct {
	at  int // index of the step
	err error
}

func (f *failure) error() error {
	if f == nil {
		return nil
	}
	return f.err
}

// errAlone says that a batch must be cut into single increments.
var errAlone = errors.New("these increments must be applied one by one")

// Apply implements nodeclient.Target. The text of a FAIL names the increment, what the server said and the
// beginning of the statement. A Transient after a lost commit may come with a position ahead of before.
func (t *Target) Apply(ctx context.Context, before event.Position, batch []event.Item) (event.Position, error) {
	steps, refused := prepare(batch)
	if len(steps) == 0 {
		return before, refused
	}
	applied, err := t.applySteps(ctx, before, steps)
	if err != nil {
		return applied, err
	}
	return applied, refused
}

// prepare checks each increment before anything runs. refused is the FAIL of the first bad one, which is the
// item right behind steps.
func prepare(batch []event.Item) (steps []step, refused error) {
	steps = make([]step, 0, len(batch))
	for _, item := range batch {
		s := step{pos: item.Pos}
		if item.Record != nil {
			var err error
			if s.statements, s.alone, err = parse(item.Record.Body()); err != nil {
				return steps, fmt.Errorf("postgres: increment %d: %w", item.Pos.Seq, err)
			}
			s.time = item.Record.Time()
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// applySteps commits steps, or those before the first that fails. A group that fails anywhere has been
// rolled back whole and is applied again up to the failing step.
func (t *Target) applySteps(ctx context.Context, before event.Position, steps []step) (event.Position, error) {
	pos, fail := t.transact(ctx, before, steps)
	switch {
	case fail == nil:
		return pos, nil
	case errors.Is(fail.err, errAlone):
		return t.applyAlone(ctx, before, steps)
	case fail.at == 0 || nodeclient.IsTransient(fail.err) || nodeclient.IsFatal(fail.err):
		return pos, fail.err
	}
	pos, again := t.transact(ctx, before, steps[:fail.at])
	if again != nil {
		return pos, again.error()
	}
	return pos, fail.err
}

// applyAlone gives each step its own transaction.
func (t *Target) applyAlone(ctx context.Context, before event.Position, steps []step) (event.Position, error) {
	for i := range steps {
		pos, fail := t.transact(ctx, before, steps[i:i+1])
		if fail != nil {
			return pos, fail.error()
		}
		before = pos
	}
	return before, nil
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise. Its round trips: two to begin,
// one for everything, one to commit.
func (t *Target) transact(ctx context.Context, before event.Position, steps []step) (event.Position, *failure) {
	c, err := t.conn(ctx)
	if err != nil {
		return before, &failure{0, err}
	}
	defer giveBack(ctx, c)
	stored, deferrable, err := begin(ctx, c)
	if err != nil {
		return before, &failure{0, err}
	}
	if err := t.compare(stored, before); err != nil {
		return stored, &failure{0, err}
	}
	for _, s := range steps {
		if len(steps) > 1 && (deferrable || s.alone) {
			return stored, &failure{0, errAlone}
		}
	}
	if at, err := run(ctx, c, stored, steps); err != nil {
		return before, &failure{at, err}
	}
	last := len(steps) - 1
	if err := execute(ctx, c, "COMMIT"); err != nil {
		return t.settle(ctx, before, stored, steps[last], last, err)
	}
	return steps[last].pos, nil
}

// compare is nodeclient.CheckAdvance that remembers a commit nobody answered.
func (t *Target) compare(stored, before event.Position) error {
	doubt := t.doubt
	t.doubt = event.Position{}
	if !doubt.Zero() && stored == doubt && stored != before {
		return nodeclient.Transient(fmt.Errorf("postgres: a commit whose answer was lost is stored after all: going on behind %d", stored.Seq))
	}
	return nodeclient.CheckAdvance(stored, before)
}

// run sends all statements of a transaction, and the moving of the position, without waiting in between. It
// returns the index of the failing step.
func run(ctx context.Context, c *pgconn.PgConn, stored event.Position, steps []step) (int, error) {
	var time int64
	p := c.StartPipeline(ctx)
	send := func(all []statement) {
		for _, st := range all {
			p.SendQueryParams(st.text, st.args, nil, nil, nil)
		}
	}
	for _, s := range steps {
		if s.time != 0 {
			time = s.time
		}
		send(s.statements)
	}
	moving := advance(stored, steps[len(steps)-1].pos, time)
	send(moving)
	at, err := 0, classify(p.Sync())
	if err == nil {
		at, err = answers(p, steps, moving)
	}
	if closed := p.Close(); err == nil && closed != nil {
		err = classify(fmt.Errorf("postgres: apply: %w", closed))
	}
	return at, err
}

// answers reads what the server says to each statement.
func answers(p *pgconn.Pipeline, steps []step, moving []statement) (int, error) {
	for i, s := range steps {
		for _, st := range s.statements {
			if _, err := answer(p); err != nil {
				return i, fmt.Errorf("postgres: increment %d: %w, in line %d: %s", s.pos.Seq, err, st.line, start(st.text))
			}
		}
	}
	rows := int64(0)
	for range moving {
		n, err := answer(p)
		if err != nil {
			return 0, moved(steps, err)
		}
		rows = n
	}
	if rows != 1 {
		return 0, moved(steps, fmt.Errorf("moving the position changed %d rows instead of one", rows))
	}
	return 0, nil
}

// moved judges a position that does not move although it was locked: the increments have touched it, by ways that
// words do not show. Which one is found by applying them alone; that one is a FAIL.
func moved(steps []step, err error) error {
	if nodeclient.IsTransient(err) {
		return fmt.Errorf("postgres: move the position: %w", err)
	}
	if len(steps) > 1 {
		return fmt.Errorf("%w: %w", errAlone, err)
	}
	return fmt.Errorf("postgres: increment %d: it changes the table in which XMQ keeps its place: %w", steps[0].pos.Seq, err)
}

// answer reads one statement's answer to its end and returns how many rows it changed. Its error is classed.
func answer(p *pgconn.Pipeline) (int64, error) {
	results, err := p.GetResults()
	if err != nil {
		return 0, classify(err)
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return 0, nodeclient.Transient(fmt.Errorf("the server's answers ended early, with a %T", results))
	}
	tag, err := reader.Close()
	return tag.RowsAffected(), classify(err)
}

// start is the beginning of a statement for a message: at most 200 bytes of it, on one line.
func start(statement string) string {
	return strconv.Quote(statement[:min(len(statement), 200)])
}

// settle answers for a commit that returned an error. What the server said is certain: a constraint checked at the
// commit, a serialization failure; nothing of it is stored. When the answer was lost, the position read back
// over a new connection tells; that waits for the old transaction to end.
func (t *Target) settle(ctx context.Context, before, stored event.Position, last step, at int, failed error) (event.Position, *failure) {
	if !road(failed) {
		if at > 0 { // cannot be: such batches are applied one by one
			return before, &failure{0, fmt.Errorf("%w: %w", errAlone, failed)}
		}
		return before, &failure{0, classify(fmt.Errorf("postgres: increment %d: %w, at its commit", last.pos.Seq, failed))}
	}
	closeConn(t.pg)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	now, err := t.Position(ctx)
	switch {
	case err != nil && !nodeclient.IsFatal(err):
		t.doubt = last.pos
		return before, &failure{at, nodeclient.Transient(fmt.Errorf("postgres: whether the commit of %d is stored is unknown until the server answers again: %w; %w", last.pos.Seq, failed, err))}
	case err != nil:
		return before, &failure{at, err}
	case now == last.pos:
		return now, nil
	case now == stored:
		return before, &failure{at, nodeclient.Transient(fmt.Errorf("postgres: the commit of %d failed and nothing of it is stored: %w", last.pos.Seq, failed))}
	}
	return now, &failure{at, nodeclient.Fatal(fmt.Errorf("postgres: after a failed commit of %d the database stands at %s: another hand has written its position: %w", last.pos.Seq, now, failed))}
}
