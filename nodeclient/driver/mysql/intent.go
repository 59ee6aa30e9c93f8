package mysql

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// alter applies one increment that changes the schema, which the server commits by itself. The position row holds the
// intent while it runs. A step that finds the intent of its own statement comes after a crash, a lost answer or an
// order that came meanwhile: what the schema looks like says whether the statement was done, since the server does
// such a statement whole or not at all (OR REPLACE: it may have taken away what was there, and made nothing). Where
// that does not show, a person is asked.
func (t *Database) alter(ctx context.Context, before event.Position, steps []step) (event.Position, *apply.Failure) {
	if err := t.untilClosed(ctx); err != nil {
		return before, apply.Fail(0, err)
	}
	st := steps[0]
	s, p, err := t.enter(ctx, before, steps, func(ctx context.Context, s *session, p place) error {
		return t.putBackAround(ctx, s, p, st)
	})
	if err != nil {
		return p.pos, apply.Fail(0, err)
	}
	defer t.giveBack(ctx, s)
	if st.Work.leaks { // its settings go with the session
		defer s.close()
	}
	now, there, err := t.fingerprint(ctx, s, st.Work.ddl)
	if err != nil {
		return before, apply.Fail(0, classify(fmt.Errorf("mysql: increment %d: look at the schema before it: %w", st.Seq(),
			err)))
	}
	interrupted := false
	if p.ddl.pos.Seq == st.Pos.Seq && p.ddl.pos.Chain == st.Pos.Chain {
		if interrupted, err = t.intends(ctx, s, st); err != nil {
			return before, apply.Fail(0, err)
		}
	}
	if interrupted {
		ask := func() (event.Position, *apply.Failure) {
			return before, apply.Fail(0, fmt.Errorf("mysql: increment %d: whether its %s was done when the server or the "+
				"node stopped cannot be seen, since the schema may look the same before and after it: "+
				"look whether it was; retry runs it (again), skip takes it as done: %s", st.Seq(), st.Work.ddl.verb,
				apply.Start(st.Work.statements[0].Text)))
		}
		switch {
		case p.ddl.before == asked && st.Decision == p.ddl.answer:
			return ask()
		case p.ddl.before == asked: // answered since
		case p.ddl.before != now && there:
			return t.done(ctx, s, before, p.pos, st)
		case st.Work.ddl.blind || t.elsewhere(st.Work.ddl): // an order of before does not know of the question
			if err := t.record(ctx, s, p.pos, intent{st.Pos, asked, st.Decision, digest(st)}); err != nil {
				return before, apply.Fail(0, err)
			}
			return ask()
		}
	} // else it has not run: there is no intent, or an operator has replaced the statement since
	if err := t.record(ctx, s, p.pos, intent{st.Pos, now, st.Decision, digest(st)}); err != nil {
		return before, apply.Fail(0, err)
	}
	pos, fail := t.change(ctx, s, before, p.pos, st)
	if fail != nil && st.Outside != 0 && nodeclient.IsTransient(fail.Err) { // nothing tries it again by itself
		fail.Err = nodeclient.Unknown(fail.Err)
	}
	return pos, fail
}

// asked stands in an intent for the fingerprint, when a person was asked whether the statement was done: it runs
// after an answer that came after the question, and however the schema looks then.
const asked = "asked"

// digest tells a statement, with its settings, from one that replaces it.
func digest(st step) string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%q %q", st.Work.resets, st.Work.statements[0].Text) // a hash never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// intends reports whether the stored intent is that of the statement of st: an operator may have replaced it since.
// That of an earlier revision does not say. The position table is of this revision.
func (t *Database) intends(ctx context.Context, s *session, st step) (bool, error) {
	rows, err := s.query(ctx, "SELECT coalesce(ddl_statement, '') FROM "+table)
	if err != nil {
		return false, nodeclient.Transient(fmt.Errorf("mysql: increment %d: look which statement was to run: %w", st.Seq(),
			err))
	}
	return len(rows) == 1 && (rows[0][0] == "" || rows[0][0] == digest(st)), nil
}

// elsewhere reports whether a statement changes another database, which the fingerprint does not show.
func (t *Database) elsewhere(d *ddl) bool {
	return slices.ContainsFunc(d.places, func(place string) bool { return !strings.EqualFold(place, t.cfg.DBName) })
}

// putBackAround is putBack for a node that finds the intent of a change of the schema, which may have been done. What
// it has done to the numbers of its own tables stays.
func (t *Database) putBackAround(ctx context.Context, s *session, p place, st step) error {
	d := st.Work.ddl
	if err := upgrade(ctx, s); err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: add columns to the table of the position: %w", err))
	}
	if same, err := t.intends(ctx, s, st); err != nil {
		return err
	} else if !same { // what the other one has done to the numbers stays
		return t.adoptCounters(ctx, s, p)
	}
	now, _, err := t.fingerprint(ctx, s, d)
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: increment %d: look at the schema: %w", st.Seq(), err))
	}
	var except []string
	keeps := d.verb == "ALTER TABLE" && !slices.Contains(d.words, "auto_increment") &&
		!slices.Contains(d.words, "partition")
	if !keeps && (p.ddl.before != now || d.blind || d.empties != "") {
		except = d.words
	}
	return t.putBack(ctx, s, except)
}

// record stores an intent and where all counters stand, or with the zero intent takes it back, and ends the
// transaction but keeps the place locked.
func (t *Database) record(ctx context.Context, s *session, stored event.Position, i intent) error {
	if err := t.openAll(ctx, s); err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers before %d: %w", i.pos.Seq, err))
	}
	script := intend(stored, i, t.recounted())
	if i == (intent{}) {
		script = "UPDATE xmq_position SET " + noIntent + where(stored)
	}
	found, err := s.exec(ctx, script)
	if err == nil && found != 1 {
		err = fmt.Errorf("it found %d rows instead of one", found)
	}
	if err == nil {
		err = s.do(ctx, "XA END "+t.lock+"; XA COMMIT "+t.lock+" ONE PHASE")
		s.xa = err != nil
	}
	if err != nil { // the next Apply sees what is stored
		return nodeclient.Transient(fmt.Errorf("mysql: write down the intent of %d: %w", i.pos.Seq, err))
	}
	return nil
}

// change runs the statement between two transactions.
func (t *Database) change(ctx context.Context, s *session, before, stored event.Position, st step) (event.Position,
	*apply.Failure) {
	t.counters.sure, t.counters.ours = false, true // until the commit
	refused, err := t.statement(ctx, s, st)
	if err != nil { // the intent stays: what was done is seen by the next Apply
		return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: whether %d was done is seen when it is tried "+
			"again: %w", st.Seq(), err)))
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	s.xa = true
	if err := s.do(ctx, "XA START "+t.lock); err != nil {
		return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: move the position after %d: %w", st.Seq(),
			err)))
	}
	if refused == nil {
		if st.Work.ddl.callable() {
			if err := t.learn(ctx, s); err != nil {
				return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at what can be called after %d: %w",
					st.Seq(), err)))
			}
		}
		return t.done(ctx, s, before, stored, st)
	}
	if err := t.record(ctx, s, stored, intent{}); err != nil {
		return before, apply.Fail(0, err)
	}
	return before, apply.Fail(0, refused)
}

// statement runs the one statement of a step. refused is its FAIL, err is trouble that may pass.
func (t *Database) statement(ctx context.Context, s *session, st step) (refused, err error) {
	text := st.Work.statements[0].Text
	fail := func(err error) error { return t.failure([]step{st}, ref{}, err) }
	if len(text) >= s.packet {
		return fail(tooLong(text, s.packet)), nil
	}
	pins := ""
	if s.calls.any {
		pins = t.flavour.pins + "; "
	}
	if err := s.do(ctx, pins+countOne+"; SET @xmq_at = 0"+pin(st)+s.calls.resets); err != nil {
		return nil, err
	}
	switch err := s.do(ctx, text); {
	case err != nil && (connFailed(err) || transient(number(err))):
		return nil, err
	case err != nil:
		return fail(err), nil
	}
	if !strings.HasSuffix(st.Work.ddl.verb, " TABLE") {
		return nil, nil
	}
	if err := t.engines(ctx, s); nodeclient.IsTransient(err) { // words do not show every engine: LIKE another's table
		return nil, err
	} else if err != nil {
		return fmt.Errorf("mysql: increment %d was done, but is not counted: %w", st.Seq(), err), nil
	}
	return nil, nil
}

// done moves the position after a statement that was done, and takes its intent back, in the open transaction.
func (t *Database) done(ctx context.Context, s *session, before, stored event.Position, st step) (event.Position,
	*apply.Failure) {
	reach, err := learnReach(ctx, s)
	if err != nil {
		return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers after %d: "+
			"%w", st.Seq(), err)))
	}
	t.learnt(reach)
	if err := t.openAll(ctx, s); err != nil {
		return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers after %d: "+
			"%w", st.Seq(), err)))
	}
	found, err := s.exec(ctx, advance(stored, st.Pos, st.Time, t.recounted()))
	if err == nil && found != 1 {
		return before, apply.Fail(0, nodeclient.Fatal(fmt.Errorf("mysql: moving the position after %d found %d rows "+
			"instead of one: someone else has written it", st.Seq(), found)))
	}
	if err != nil {
		return before, apply.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: move the position after %d: %w", st.Seq(),
			err)))
	}
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := t.commit(ctx, s); err != nil {
		return t.settle(ctx, before, stored, st.Pos, 0, err)
	}
	t.counters.sure, t.counters.gave = true, make([]int, len(reach.counters))
	return st.Pos, nil
}

// shownCounter is what SHOW CREATE TABLE says of the next AUTO_INCREMENT.
var shownCounter = regexp.MustCompile(`ENGINE=InnoDB AUTO_INCREMENT=\d+`)

// fingerprint is a digest of what a statement can change: the names of everything in the schema, how the tables,
// views, triggers and routines look whose names stand in the statement, and whether what it empties is empty. For a
// DROP of one of those the names tell. there: what the statement makes is there, when it takes away another before
// that.
func (t *Database) fingerprint(ctx context.Context, s *session, d *ddl) (print string, there bool, err error) {
	schema := quoteText(t.cfg.DBName)
	rows, err := s.query(ctx, "SELECT table_type, table_name FROM information_schema.tables WHERE table_schema = "+schema+
		" UNION ALL SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = "+schema+
		" UNION ALL SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE trigger_schema = "+schema+
		" ORDER BY 1, 2")
	if err != nil {
		return "", false, err
	}
	h := fnv.New64a()
	there = d.makes == ""
	var script []string
	for _, row := range rows {
		_, _ = fmt.Fprintf(h, "%q %q\n", row[0], row[1]) // a hash never fails
		kind, known := shown[row[0]]
		there = there || strings.EqualFold(row[1], d.makes) && strings.HasSuffix(d.verb, " "+kind)
		if known && !d.named && slices.Contains(d.words, strings.ToLower(row[1])) {
			script = append(script, "SHOW CREATE "+kind+" "+quoteName(row[1]))
		}
	}
	if len(script) > 0 {
		sets, err := s.results(ctx, strings.Join(script, "; "))
		if err != nil {
			return "", false, err
		}
		for _, set := range sets {
			_, _ = fmt.Fprintf(h, "%q\n", shownCounter.ReplaceAllString(strings.Join(set[0], "\n"), ""))
		}
	}
	if d.empties != "" {
		rows, err := s.query(ctx, "SELECT EXISTS(SELECT 1 FROM "+d.empties+")")
		switch {
		case err == nil && rows[0][0] == "0":
			_, _ = fmt.Fprintf(h, "empty\n")
		case err != nil && (connFailed(err) || transient(number(err))): // else it is not there, and the server will say so
			return "", false, err
		}
	}
	return fmt.Sprintf("%016x", h.Sum64()), there, nil
}

// shown is the word after SHOW CREATE for each kind of thing.
var shown = map[string]string{"BASE TABLE": "TABLE", "VIEW": "VIEW", "SEQUENCE": "SEQUENCE", "PROCEDURE": "PROCEDURE",
	"FUNCTION": "FUNCTION", "TRIGGER": "TRIGGER"}
