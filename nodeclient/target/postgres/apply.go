package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/target/batch"
)

// step is one item of a batch, ready to run.
type step = batch.Step[work]

// Apply implements nodeclient.Target. The text of a FAIL names the increment, what the server said and the
// beginning of the statement. A Transient after a lost commit may come with a position ahead of before.
func (t *Target) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	steps, refused := batch.Prepare("postgres", items, parse)
	return batch.Apply(before, steps, refused, func(before event.Position, steps []step) (event.Position, *batch.Failure) {
		return t.transact(ctx, before, steps)
	})
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise. Its round trips: two to begin,
// one for everything, one to commit.
func (t *Target) transact(ctx context.Context, before event.Position, steps []step) (event.Position, *batch.Failure) {
	c, err := t.conn(ctx)
	if err != nil {
		return before, batch.Fail(0, err)
	}
	defer giveBack(ctx, c)
	stored, deferrable, err := begin(ctx, c)
	if err != nil {
		return before, batch.Fail(0, err)
	}
	if err := t.compare(stored, before); err != nil {
		return stored, batch.Fail(0, err)
	}
	for _, s := range steps {
		if len(steps) > 1 && (deferrable || s.Work.alone) {
			return stored, batch.Fail(0, batch.ErrAlone)
		}
	}
	if err := t.templates.on(ctx, c); err != nil {
		return before, batch.Fail(0, classify(fmt.Errorf("postgres: forget prepared statements: %w", err)))
	}
	if at, err := t.run(ctx, c, stored, steps); err != nil {
		t.templates.dirty = true // which of them were made is not known
		return before, batch.Fail(at, err)
	}
	last := len(steps) - 1
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := execute(ctx, c, "COMMIT"); err != nil {
		return t.settle(ctx, before, stored, steps[last], last, err)
	}
	return steps[last].Pos, nil
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
func (t *Target) run(ctx context.Context, c *pgconn.PgConn, stored event.Position, steps []step) (int, error) {
	p := c.StartPipeline(ctx)
	send := func(all []statement) {
		for i := range all {
			st := &all[i]
			name, fresh := t.templates.prepares(st)
			if st.prepared = fresh; fresh {
				p.SendPrepare(name, st.text, nil)
			}
			if name == "" {
				p.SendQueryParams(st.text, st.args, nil, nil, nil)
			} else {
				p.SendQueryPrepared(name, st.args, nil, nil)
			}
		}
	}
	for i := range steps {
		send(steps[i].Work.statements)
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	moving := advance(stored, steps[len(steps)-1].Pos, batch.LastTime(steps))
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
		for _, st := range s.Work.statements {
			err := error(nil)
			if st.prepared {
				_, err = p.GetResults()
				err = classify(err)
			}
			if err == nil {
				_, err = answer(p)
			}
			if err != nil {
				return i, fmt.Errorf("postgres: increment %d: %w, in line %d: %s", s.Pos.Seq, err, st.line, batch.Start(st.text))
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
		return fmt.Errorf("%w: %w", batch.ErrAlone, err)
	}
	return fmt.Errorf("postgres: increment %d: it changes the table in which XMQ keeps its place: %w", steps[0].Pos.Seq, err)
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

// settle answers for a commit that returned an error. What the server said is certain: a constraint checked at the
// commit, a serialization failure; nothing of it is stored. When the answer was lost, the position read back
// over a new connection tells; that waits for the old transaction to end.
func (t *Target) settle(ctx context.Context, before, stored event.Position, last step, at int, failed error) (event.Position, *batch.Failure) {
	if !road(failed) {
		if at > 0 { // cannot be: such batches are applied one by one
			return before, batch.Fail(0, fmt.Errorf("%w: %w", batch.ErrAlone, failed))
		}
		return before, batch.Fail(0, classify(fmt.Errorf("postgres: increment %d: %w, at its commit", last.Pos.Seq, failed)))
	}
	closeConn(t.pg)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	now, err := t.Position(ctx)
	switch {
	case err != nil && !nodeclient.IsFatal(err):
		t.doubt = last.Pos
		return before, batch.Fail(at, nodeclient.Transient(fmt.Errorf("postgres: whether the commit of %d is stored is unknown until the server answers again: %w; %w", last.Pos.Seq, failed, err)))
	case err != nil:
		return before, batch.Fail(at, err)
	case now == last.Pos:
		return now, nil
	case now == stored:
		return before, batch.Fail(at, nodeclient.Transient(fmt.Errorf("postgres: the commit of %d failed and nothing of it is stored: %w", last.Pos.Seq, failed)))
	}
	return now, batch.Fail(at, nodeclient.Fatal(fmt.Errorf("postgres: after a failed commit of %d the database stands at %s: another hand has written its position: %w", last.Pos.Seq, now, failed)))
}
