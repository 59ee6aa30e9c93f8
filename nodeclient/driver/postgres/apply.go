package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// step is one item of a batch, ready to run.
type step = apply.Step[work]

// Apply implements nodeclient.Database. The text of a FAIL names the increment, what the server said and the
// beginning of the statement. A Transient after a lost commit may come with a position ahead of before.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	steps, refused := apply.Prepare("postgres", before, items, parse)
	alone := func(w *work) bool { return w.alone }
	return apply.Apply(before, steps, refused, &t.patience, alone,
		func(before event.Position, steps []step) (event.Position, *apply.Failure) {
			return t.transact(ctx, before, steps)
		})
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise. Its round trips: two to begin,
// one for everything, one to commit.
func (t *Database) transact(ctx context.Context, before event.Position, steps []step) (event.Position, *apply.Failure) {
	t.renew(steps)
	ready, err := t.conn(ctx)
	if err == nil && t.numbers.due() {
		if err = t.holds(ctx); err == nil {
			ready, err = t.conn(ctx)
		}
		if err == nil {
			err = t.putBack(ctx, ready)
		}
		t.asking.known = false // others may have made what asks
	}
	if err != nil {
		return before, apply.Fail(0, err)
	}
	clean := ""
	if t.used || steps[0].Work.asks { // those stand alone
		clean = reset
	}
	c, at, err := t.enter(ctx, clean)
	if c != nil {
		defer t.tidySession(ctx, c, steps)
		defer giveBack(ctx, c)
	}
	if err == nil && c != ready {
		err = nodeclient.Transient(errors.New("postgres: the connection was lost before the increments could be sent"))
	}
	if err != nil {
		return before, apply.Fail(0, err)
	}
	t.used = at.functions
	if err := t.compare(at.pos, before); err != nil {
		t.unknown() // what has moved the position may have moved all else
		return at.pos, apply.Fail(0, err)
	}
	if err := t.learnRemains(ctx, c, at); err != nil {
		return before, apply.Fail(0, err)
	}
	if len(steps) > 1 && at.deferrable || t.remains.apart(steps) {
		return at.pos, apply.Fail(0, apply.ErrAlone)
	}
	for _, s := range steps {
		t.used = t.used || s.Work.alone
	}
	if steps[0].Work.alone {
		t.asking = asking{asks: true} // perhaps; and for those after it nothing is known
	} else if err := t.learnAsking(ctx, c, at); err != nil {
		return before, apply.Fail(0, err)
	}
	if err := t.templates.on(ctx, c); err != nil {
		return before, apply.Fail(0, classify(fmt.Errorf("postgres: forget prepared statements: %w", err)))
	}
	t.numbers.settled = false
	named := t.templates.named()
	oneLine := false
	if !at.pos.Zero() && at.sequences != "0" {
		if oneLine, err = t.chooseDirect(ctx, c, at, steps); err != nil {
			return before, apply.Fail(0, passing(classify(fmt.Errorf("postgres: list the sequences: %w", err))))
		}
	}
	what, i, err := t.run(ctx, c, at, steps, oneLine)
	t.remains.ends(steps, what, err != nil)
	if err != nil {
		t.templates.failed()
		if named && code(err) == unprepared && !c.IsClosed() { // by a function of the steps
			giveBack(ctx, c)
			return t.transact(ctx, before, steps)
		}
		if errors.Is(err, errDirect) && !c.IsClosed() {
			t.numbers.direct.barred = true
			giveBack(ctx, c)
			return t.transact(ctx, before, steps)
		}
		return before, apply.Fail(i, err)
	}
	if oneLine {
		t.numbers.direct.wrote(what.line)
	} else {
		t.numbers.direct.vote(len(what.oids), len(t.numbers.known))
	}
	if err := t.note(ctx, c, what); err != nil {
		return before, apply.Fail(0, passing(classify(fmt.Errorf("postgres: store the values of the sequences: %w", err))))
	}
	last := len(steps) - 1
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := execute(ctx, c, "COMMIT"); err != nil {
		return t.settle(ctx, before, at.pos, steps[last], last, err)
	}
	t.numbers.settled = true
	return steps[last].Pos, nil
}

// unknown says that nothing is known of the database, which may be another one.
func (t *Database) unknown() {
	t.numbers.settled, t.asking.known, t.remains.since = false, false, time.Time{}
}

// compare is nodeclient.CheckAdvance that remembers a commit nobody answered.
func (t *Database) compare(stored, before event.Position) error {
	doubt := t.doubt
	t.doubt = event.Position{}
	if !doubt.Zero() && stored == doubt && stored != before {
		return nodeclient.Transient(fmt.Errorf("postgres: a commit whose answer was lost is stored after all: going on "+
			"after %d", stored.Seq))
	}
	return t.hold.Advance(stored, before)
}

// ending is what a transaction sends after its steps.
type ending struct {
	before   []statement // what asks for settings before the steps; nil when nothing is asked or the answer is known
	known    string      // that answer
	forgets  bool        // the session forgets what sequences have given it before each step
	deferred bool        // what is deferred to the commit is done first: it may use sequences
	looks    []statement // changed or probing; nil when what the steps have left in the session is of no matter
	reach    []statement // askBeyond, where move does not ask that; nil when the steps cannot
	moving   []statement
	numbers  bool // the last of moving answers what was done to sequences
	direct   bool // the last of moving is moveDirect
}

// immediate lets a transaction do now what is deferred to its commit.
const immediate = "SET CONSTRAINTS ALL IMMEDIATE"

// run sends all statements of a transaction, and the moving of the position, without waiting in between. It
// returns what it did to sequences, and the index of the failing step. oneLine says that it writes them by moveDirect.
func (t *Database) run(ctx context.Context, c *pgconn.PgConn, found place, steps []step, oneLine bool) (
	what touched, at int, err error) {
	p := c.StartPipeline(ctx)
	send := func(all []statement) {
		for i := range all {
			st := &all[i]
			name, fresh := t.templates.prepares(st)
			if st.prepared = fresh; fresh {
				p.SendPrepare(name, st.text, nil)
			}
			if name == "" {
				p.SendQueryParams(st.text, st.args, st.types, st.formats, nil)
			} else {
				p.SendQueryPrepared(name, st.args, nil, nil)
			}
		}
	}
	names := t.remains.of(steps).names
	known, is := t.remains.knows(names)
	var probes []statement
	if !is {
		probes = []statement{probe(probing, names)}
	}
	send(probes)
	for i := range steps {
		if t.asking.asks {
			send([]statement{{text: forgetNumbers}})
		}
		send(steps[i].Work.statements)
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	alone := steps[0].Work.alone
	end := ending{
		before:   probes,
		known:    known,
		forgets:  t.asking.asks,
		deferred: alone || found.deferrable,
		numbers:  !found.pos.Zero() && !oneLine && (alone || found.functions || found.sequences != "0"),
		direct:   oneLine,
	}
	switch {
	case found.functions && len(steps) > 1:
		end.looks = []statement{probe(changed, names)}
	case len(names) > 0:
		end.looks = []statement{probe(probing, names)}
	}
	// move asks for it too, but is preceded by the making of an index where the table has none
	if (!end.numbers || found.bare) && (alone || found.functions) {
		end.reach = []statement{{text: askBeyond}}
	}
	last := steps[len(steps)-1].Pos
	var all []string
	if oneLine {
		all = t.numbers.direct.oids
	}
	end.moving = advance(found.pos, last, apply.LastTime(steps), found.bare, end.numbers, t.numbers.foreign, all)
	if end.deferred {
		send([]statement{{text: immediate}})
	}
	send(end.looks)
	send(end.reach)
	send(end.moving)
	if err = classify(p.Sync()); err == nil {
		what, at, err = answers(p, steps, end)
	}
	if closed := p.Close(); err == nil && closed != nil {
		err = classify(fmt.Errorf("postgres: apply: %w", closed))
	}
	what.all = what.all || found.pos.Zero()
	return what, at, err
}

// answers reads what the server says to each statement.
func answers(p *pgconn.Pipeline, steps []step, end ending) (what touched, at int, err error) {
	last := steps[len(steps)-1].Seq()
	for _, st := range end.before {
		if end.known, err = askedOf(p, st); err != nil {
			return what, apply.Unknown, fmt.Errorf("postgres: look at the session before increment %d: %w", steps[0].Seq(), err)
		}
	}
	for i, s := range steps {
		if end.forgets {
			if _, err := answer(p, false); err != nil {
				return what, i, fmt.Errorf("postgres: increment %d: %w, in %s", s.Pos.Seq, err, forgetNumbers)
			}
		}
		for _, st := range s.Work.statements {
			if _, err := answer(p, st.prepared); err != nil {
				return what, i, fmt.Errorf("postgres: increment %d: %w, in %s: %s", s.Seq(), err, st.where,
					apply.Start(st.text))
			}
		}
	}
	if end.deferred { // of one step, which stands alone
		if _, err := answer(p, false); err != nil {
			return what, 0, fmt.Errorf("postgres: increment %d: %w, in what is deferred to its end", last, err)
		}
	}
	for _, st := range end.looks {
		now := ""
		if st.text == changed {
			now, err = unchanged(p, st)
		} else {
			now, err = askedOf(p, st)
		}
		what.settings, what.set = now, now != end.known
		if err == nil && what.set && len(steps) > 1 {
			err = fmt.Errorf("%w: a function has set what the session keeps to its end", apply.ErrAlone)
		}
		if err != nil {
			return what, apply.Unknown, fmt.Errorf("postgres: look at the session after increment %d: %w", last, err)
		}
	}
	for _, st := range end.reach {
		all, err := askedBeyond(p, st)
		if err == nil {
			err = all.refused(steps)
		}
		if err != nil {
			return what, 0, fmt.Errorf("postgres: increment %d: %w", steps[0].Seq(), err)
		}
	}
	for i, st := range end.moving {
		reader, err := next(p, st.prepared)
		if err != nil {
			return what, apply.Unknown, moved(steps, err)
		}
		r := reader.Read()
		if err := said(r.Err); err != nil {
			if end.direct && i == len(end.moving)-1 && !nodeclient.IsTransient(err) {
				return what, apply.Unknown, fmt.Errorf("%w: %w", errDirect, err)
			}
			return what, apply.Unknown, moved(steps, err)
		}
		if i < len(end.moving)-1 {
			continue
		}
		if n := r.CommandTag.RowsAffected(); n != 1 {
			return what, apply.Unknown, moved(steps, fmt.Errorf("moving the position changed %d rows instead of one", n))
		}
		if end.numbers {
			found := readTouched(r.Rows[0])
			found.set, found.settings = what.set, what.settings
			if len(end.moving) > 1 { // the index that it has just been given
				found.own = false
			}
			what = found
			if err := what.refused(steps); err != nil {
				return what, 0, fmt.Errorf("postgres: increment %d: %w", steps[0].Seq(), err)
			}
		}
		if end.direct {
			what.line = string(r.Rows[0][0])
		}
	}
	return what, 0, nil
}

// moved judges a position that does not move although it was locked: the increments have touched it, or made the
// transaction read only, by ways that words do not show. Which one is found by applying them alone; that one is a
// FAIL.
func moved(steps []step, err error) error {
	if nodeclient.IsTransient(err) {
		return fmt.Errorf("postgres: increment %d: move the position: %w", steps[len(steps)-1].Seq(), err)
	}
	return fmt.Errorf("postgres: increment %d: it changes the table in which XMQ keeps its position, or who may write "+
		"it: %w", steps[0].Seq(), err)
}

// answer reads one statement's answer to its end and returns how many rows it changed. Its error is classed.
func answer(p *pgconn.Pipeline, prepared bool) (int64, error) {
	reader, err := next(p, prepared)
	if err != nil {
		return 0, err
	}
	tag, err := reader.Close()
	return tag.RowsAffected(), said(err)
}

// next is the answer to the next statement, after that to its preparation when it was prepared right before.
func next(p *pgconn.Pipeline, prepared bool) (*pgconn.ResultReader, error) {
	if prepared {
		if _, err := p.GetResults(); err != nil {
			return nil, said(err)
		}
	}
	results, err := p.GetResults()
	if err != nil {
		return nil, said(err)
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, nodeclient.Transient(fmt.Errorf("the server's answers ended early, with a %T", results))
	}
	return reader, nil
}

// settle answers for a commit that returned an error. What the server said is certain: a constraint checked at the
// commit, a serialization failure; nothing of it is stored. When the answer was lost, the position read back
// over a new connection tells; that waits for the old transaction to end.
func (t *Database) settle(ctx context.Context, before, stored event.Position, last step, at int,
	failed error) (event.Position, *apply.Failure) {
	if !connFailed(failed) {
		if at > 0 { // cannot be: such batches are applied one by one
			return before, apply.Fail(0, fmt.Errorf("%w: %w", apply.ErrAlone, failed))
		}
		return before, apply.Fail(0, fmt.Errorf("postgres: increment %d: %w, at its commit", last.Seq(), said(failed)))
	}
	closeConn(t.pg)
	if last.Pos == stored { // outside the order: the position tells nothing
		return before, apply.Fail(0, nodeclient.Unknown(fmt.Errorf("postgres: the answer to the commit was lost, and "+
			"whether it is stored is not known: %w", failed)))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	now, err := t.Position(ctx)
	switch {
	case err != nil && !nodeclient.IsFatal(err):
		t.doubt = last.Pos
		return before, apply.Fail(at, nodeclient.Transient(fmt.Errorf("postgres: whether the commit of %d is stored is "+
			"unknown until the server answers again: %w; %w", last.Seq(), failed, err)))
	case err != nil:
		return before, apply.Fail(at, err)
	case now == last.Pos:
		return now, nil
	case now == stored:
		return before, apply.Fail(at, nodeclient.Transient(fmt.Errorf("postgres: the commit of %d failed and nothing of "+
			"it is stored: %w", last.Seq(), failed)))
	}
	return now, apply.Fail(at, fmt.Errorf("postgres: after a failed commit of %d: %w: %w", last.Seq(),
		t.hold.Advance(now, stored), failed))
}
