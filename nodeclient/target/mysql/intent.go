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
	"xmq/nodeclient/target/batch"
)

// alter applies one increment that changes the schema, which the server commits by itself. The position row holds the
// intent while it runs. A step that finds its own intent comes behind a crash or a lost answer: what the schema
// looks like says whether the statement was done, since the server does such a statement whole or not at all.
func (t *Target) alter(ctx context.Context, before event.Position, steps []step) (event.Position, *batch.Failure) {
	if err := t.untilClosed(ctx); err != nil {
		return before, batch.Fail(0, err)
	}
	st := steps[0]
	s, p, err := t.enter(ctx, before, func(ctx context.Context, s *session, p place) error {
		return t.putBackAround(ctx, s, p, st)
	})
	if err != nil {
		return p.pos, batch.Fail(0, err)
	}
	defer t.giveBack(ctx, s)
	if st.Work.leaks { // its settings go with the session
		defer s.close()
	}
	now, err := t.fingerprint(ctx, s, st.Work.ddl)
	if err != nil {
		return before, batch.Fail(0, classify(fmt.Errorf("mysql: increment %d: look at the schema before it: %w", st.Pos.Seq, err)))
	}
	ours := p.ddl.pos.Seq == st.Pos.Seq && p.ddl.pos.Chain == st.Pos.Chain
	answered := st.Answer != 0 && st.Answer != p.ddl.answer // since it ran last
	// An order may come while it runs. When that is not for another statement, the schema says whether it came too late.
	seen := t.ran == ran{st.Pos, st.Work.resets, st.Work.statements[0].Text} && !st.Work.ddl.blind
	switch d := st.Work.ddl; {
	case !ours || d.repeat || answered && !seen: // it has not run, or may run again
	case p.ddl.before != now: // it has run
		return t.done(ctx, s, before, p.pos, st)
	case d.blind: // whoever comes again without an answer asks again: a new process, a new session
		return before, batch.Fail(0, fmt.Errorf("mysql: increment %d: whether its %s was done when the server or the node stopped cannot be seen, since the schema may look the same before and behind it: "+
			"look whether it was; retry runs it (again), skip takes it as done: %s", st.Pos.Seq, d.verb, batch.Start(st.Work.statements[0].Text)))
	}
	if err := t.record(ctx, s, p.pos, intent{st.Pos, now, st.Answer}); err != nil {
		return before, batch.Fail(0, err)
	}
	t.ran = ran{st.Pos, st.Work.resets, st.Work.statements[0].Text}
	return t.change(ctx, s, before, p.pos, st)
}

// ran is a change of the schema that this process has begun: the increment, its settings and its statement, which an
// operator may have replaced.
type ran struct {
	pos            event.Position
	settings, text string
}

// putBackAround is putBack for a node that finds the intent of a change of the schema, which may have been done. What
// it has done to the numbers of its own tables stays.
func (t *Target) putBackAround(ctx context.Context, s *session, p place, st step) error {
	d := st.Work.ddl
	now, err := t.fingerprint(ctx, s, d)
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: increment %d: look at the schema: %w", st.Pos.Seq, err))
	}
	var except []string
	keeps := d.verb == "ALTER TABLE" && !slices.Contains(d.words, "auto_increment") &&
		!slices.Contains(d.words, "partition")
	if p.ddl.before != now && !keeps {
		except = d.words
	}
	return t.putBack(ctx, s, except)
}

// record stores an intent and where all counters stand, or with the zero intent takes it back, and ends the
// transaction but keeps the place locked.
func (t *Target) record(ctx context.Context, s *session, stored event.Position, i intent) error {
	if err := t.openAll(ctx, s); err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers before %d: %w", i.pos.Seq, err))
	}
	script := intend(stored, i, t.recounted())
	if i == (intent{}) {
		script = "UPDATE xmq_position SET ddl_seq = NULL, ddl_chain = NULL, ddl_before = NULL, ddl_answer = NULL" + where(stored)
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
func (t *Target) change(ctx context.Context, s *session, before, stored event.Position, st step) (event.Position, *batch.Failure) {
	t.counters.sure, t.counters.ours = false, true // until the commit
	refused, err := t.statement(ctx, s, st)
	if err != nil { // the intent stays: what was done is seen by the next Apply
		return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: whether %d was done is seen when it is tried again: %w", st.Pos.Seq, err)))
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	s.xa = true
	if err := s.do(ctx, "XA START "+t.lock); err != nil {
		return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: move the position behind %d: %w", st.Pos.Seq, err)))
	}
	if refused == nil {
		if st.Work.ddl.callable() {
			if err := t.learn(ctx, s); err != nil {
				return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at what can be called after %d: %w", st.Pos.Seq, err)))
			}
		}
		return t.done(ctx, s, before, stored, st)
	}
	if err := t.record(ctx, s, stored, intent{}); err != nil {
		return before, batch.Fail(0, err)
	}
	return before, batch.Fail(0, refused)
}

// statement runs the one statement of a step. refused is its FAIL, err is trouble that may pass.
func (t *Target) statement(ctx context.Context, s *session, st step) (refused, err error) {
	text := st.Work.statements[0].Text
	fail := func(err error) error { return t.failure([]step{st}, ref{}, err) }
	if len(text) >= s.packet {
		return fail(tooLong(text, s.packet)), nil
	}
	if err := s.do(ctx, "SET @xmq_at = 0"+pin(st)); err != nil {
		return nil, err
	}
	switch err := s.do(ctx, text); {
	case err != nil && (road(err) || transient(number(err))):
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
		return fmt.Errorf("mysql: increment %d was done, but is not counted: %w", st.Pos.Seq, err), nil
	}
	return nil, nil
}

// done moves the position behind a statement that was done, and takes its intent back, in the open transaction.
func (t *Target) done(ctx context.Context, s *session, before, stored event.Position, st step) (event.Position, *batch.Failure) {
	reach, err := learnReach(ctx, s)
	if err != nil {
		return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers after %d: "+
			"%w", st.Pos.Seq, err)))
	}
	t.learnt(reach)
	if err := t.openAll(ctx, s); err != nil {
		return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: look at generated numbers after %d: "+
			"%w", st.Pos.Seq, err)))
	}
	found, err := s.exec(ctx, advance(stored, st.Pos, st.Time, t.recounted()))
	if err == nil && found != 1 {
		return before, batch.Fail(0, nodeclient.Fatal(fmt.Errorf("mysql: moving the position behind %d found %d rows instead of one: another hand has written it", st.Pos.Seq, found)))
	}
	if err != nil {
		return before, batch.Fail(0, nodeclient.Transient(fmt.Errorf("mysql: move the position behind %d: %w", st.Pos.Seq, err)))
	}
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := t.commit(ctx, s); err != nil {
		return t.settle(ctx, before, stored, st.Pos, 0, err)
	}
	t.counters.sure = true
	return st.Pos, nil
}

// shownCounter is what SHOW CREATE TABLE says of the next AUTO_INCREMENT.
var shownCounter = regexp.MustCompile(`ENGINE=InnoDB AUTO_INCREMENT=\d+`)

// fingerprint is a digest of what a statement can change: the names of everything in the schema, and how the tables, views,
// triggers and routines look whose names stand in the statement. For a DROP of one of those the names tell.
func (t *Target) fingerprint(ctx context.Context, s *session, d *ddl) (string, error) {
	schema := quoteText(t.cfg.DBName)
	rows, err := s.query(ctx, "SELECT table_type, table_name FROM information_schema.tables WHERE table_schema = "+schema+
		" UNION ALL SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = "+schema+
		" UNION ALL SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE trigger_schema = "+schema+" ORDER BY 1, 2")
	if err != nil {
		return "", err
	}
	h := fnv.New64a()
	var script []string
	for _, row := range rows {
		_, _ = fmt.Fprintf(h, "%q %q\n", row[0], row[1]) // a hash never fails
		if kind, known := shown[row[0]]; known && !d.named && slices.Contains(d.words, strings.ToLower(row[1])) {
			script = append(script, "SHOW CREATE "+kind+" "+quoteName(row[1]))
		}
	}
	if len(script) == 0 {
		return fmt.Sprintf("%016x", h.Sum64()), nil
	}
	sets, err := s.results(ctx, strings.Join(script, "; "))
	if err != nil {
		return "", err
	}
	for _, set := range sets {
		_, _ = fmt.Fprintf(h, "%q\n", shownCounter.ReplaceAllString(strings.Join(set[0], "\n"), ""))
	}
	return fmt.Sprintf("%016x", h.Sum64()), nil
}

// shown is the word behind SHOW CREATE for each kind of thing.
var shown = map[string]string{"BASE TABLE": "TABLE", "VIEW": "VIEW", "SEQUENCE": "SEQUENCE", "PROCEDURE": "PROCEDURE", "FUNCTION": "FUNCTION", "TRIGGER": "TRIGGER"}
