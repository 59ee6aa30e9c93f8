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
	alone := func(w *work) bool { return w.alone }
	return batch.Apply(before, steps, refused, &t.patience, alone, func(before event.Position, steps []step) (event.Position, *batch.Failure) {
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
	defer t.tidySession(ctx, c, steps)
	defer giveBack(ctx, c)
	clean := ""
	if t.used || steps[0].Work.asks { // those stand alone
		clean = reset
	}
	at, err := begin(ctx, c, clean)
	if err != nil {
		return before, batch.Fail(0, err)
	}
	t.used = at.functions
	if err := t.compare(at.pos, before); err != nil {
		return at.pos, batch.Fail(0, err)
	}
	for _, s := range steps {
		if len(steps) > 1 && at.deferrable {
			return at.pos, batch.Fail(0, batch.ErrAlone)
		}
		t.used = t.used || s.Work.alone
	}
	if err := t.templates.on(ctx, c); err != nil {
		return before, batch.Fail(0, classify(fmt.Errorf("postgres: forget prepared statements: %w", err)))
	}
	if i, err := t.run(ctx, c, at, steps); err != nil {
		t.templates.dirty = true // which of them were made is not known
		return before, batch.Fail(i, err)
	}
	last := len(steps) - 1
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := execute(ctx, c, "COMMIT"); err != nil {
		return t.settle(ctx, before, at.pos, steps[last], last, err)
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
func (t *Target) run(ctx context.Context, c *pgconn.PgConn, found place, steps []step) (int, error) {
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
	look := found.functions && len(steps) > 1
	if look {
		send([]statement{{text: changed}})
	}
	moving := advance(found.pos, steps[len(steps)-1].Pos, batch.LastTime(steps), found.bare)
	send(moving)
	at, err := 0, classify(p.Sync())
	if err == nil {
		at, err = answers(p, steps, look, moving)
	}
	if closed := p.Close(); err == nil && closed != nil {
		err = classify(fmt.Errorf("postgres: apply: %w", closed))
	}
	return at, err
}

// answers reads what the server says to each statement. looked says that it was asked what the steps have left in the session.
func answers(p *pgconn.Pipeline, steps []step, looked bool, moving []statement) (int, error) {
	for i, s := range steps {
		for _, st := range s.Work.statements {
			err := error(nil)
			if st.prepared {
				_, err = p.GetResults()
				err = said(err)
			}
			if err == nil {
				_, err = answer(p)
			}
			if err != nil {
				return i, fmt.Errorf("postgres: increment %d: %w, in line %d: %s", s.Pos.Seq, err, st.line, batch.Start(st.text))
			}
		}
	}
	if looked {
		if err := unchanged(p); err != nil {
			return batch.Unknown, fmt.Errorf("postgres: look at the session after increment %d: %w", steps[len(steps)-1].Pos.Seq, err)
		}
	}
	rows := int64(0)
	for range moving {
		n, err := answer(p)
		if err != nil {
			return batch.Unknown, moved(steps, err)
		}
		rows = n
	}
	if rows != 1 {
		return batch.Unknown, moved(steps, fmt.Errorf("moving the position changed %d rows instead of one", rows))
	}
	return 0, nil
}

// moved judges a position that does not move although it was locked: the increments have touched it, or made the transaction
// read only, by ways that words do not show. Which one is found by applying them alone; that one is a FAIL.
func moved(steps []step, err error) error {
	if nodeclient.IsTransient(err) {
		return fmt.Errorf("postgres: increment %d: move the position: %w", steps[len(steps)-1].Pos.Seq, err)
	}
	return fmt.Errorf("postgres: increment %d: it changes the table in which XMQ keeps its place, or who may write it: %w", steps[0].Pos.Seq, err)
}

// answer reads one statement's answer to its end and returns how many rows it changed. Its error is classed.
func answer(p *pgconn.Pipeline) (int64, error) {
	results, err := p.GetResults()
	if err != nil {
		return 0, said(err)
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return 0, nodeclient.Transient(fmt.Errorf("the server's answers ended early, with a %T", results))
	}
	tag, err := reader.Close()
	return tag.RowsAffected(), said(err)
}

// settle answers for a commit that returned an error. What the server said is certain: a constraint checked at the
// commit, a serialization failure; nothing of it is stored. When the answer was lost, the position read back
// over a new connection tells; that waits for the old transaction to end.
func (t *Target) settle(ctx context.Context, before, stored event.Position, last step, at int, failed error) (event.Position, *batch.Failure) {
	if !road(failed) {
		if at > 0 { // cannot be: such batches are applied one by one
			return before, batch.Fail(0, fmt.Errorf("%w: %w", batch.ErrAlone, failed))
		}
		return before, batch.Fail(0, fmt.Errorf("postgres: increment %d: %w, at its commit", last.Pos.Seq, said(failed)))
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
	return now, batch.Fail(at, fmt.Errorf("postgres: after a failed commit of %d: %w: %w", last.Pos.Seq, nodeclient.CheckAdvance(now, stored), failed))
}
