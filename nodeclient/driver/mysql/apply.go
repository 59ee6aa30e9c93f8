package mysql

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// maxChunk is how many bytes of statements go out at once, unless the server takes fewer or one statement is longer.
const maxChunk = 4 << 20

// step is one item of a batch, ready to run.
type step = apply.Step[work]

// Apply implements nodeclient.Database. The text of a FAIL names the increment, what the server said and the
// beginning of the statement. A Transient after a lost commit may come with a position ahead of before. Increments that
// change the schema, or may leave something in the session, cut the batch; the former wait for the open snapshot to be
// closed.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	steps, refused := apply.Prepare("mysql", before, items, parse)
	for len(steps) > 0 {
		n, transact := 1, t.alter
		if steps[0].Work.ddl == nil {
			transact = t.transact
			for n < len(steps) && !steps[0].Work.leaks && !steps[n].Work.leaks && steps[n].Work.ddl == nil &&
				t.counters.reach != nil && !t.counters.reach.asks.last && !t.counters.reach.lifts(steps[n-1]) {
				n++
			}
		}
		var err error
		before, err = apply.Apply(before, steps[:n], nil, &t.patience, nil,
			func(before event.Position, steps []step) (event.Position, *apply.Failure) {
				return transact(ctx, before, steps)
			})
		if err != nil {
			return before, err
		}
		steps = steps[n:]
	}
	return before, refused
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise. Its round trips: one to begin, one for
// everything, one to commit.
func (t *Database) transact(ctx context.Context, before event.Position, steps []step) (event.Position, *apply.Failure) {
	s, p, err := t.enter(ctx, before, steps, t.adoptCounters)
	if err != nil {
		return p.pos, apply.Fail(0, err)
	}
	defer t.giveBack(ctx, s)
	if len(steps) > 1 && (s.calls.opaque || t.counters.reach.asks.last) {
		return before, apply.Fail(0, apply.ErrAlone)
	}
	// settings, variables, temporary tables of what it calls go with the session
	if steps[0].Work.leaks || s.calls.opaque {
		defer s.close()
	}
	at, err := t.run(ctx, s, p.pos, steps, t.flavour.inline && !s.calls.any && !t.counters.reach.asks.counts)
	if errors.Is(err, errWhich) {
		t.giveBack(ctx, s)
		if s, p, err = t.enter(ctx, before, steps, t.adoptCounters); err != nil {
			return p.pos, apply.Fail(0, err)
		}
		defer t.giveBack(ctx, s)
		at, err = t.run(ctx, s, p.pos, steps, false)
	}
	if err != nil {
		return before, apply.Fail(at, err)
	}
	last := len(steps) - 1
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := t.commit(ctx, s); err != nil {
		t.counters.gave = nil
		return t.settle(ctx, before, p.pos, steps[last].Pos, last, err)
	}
	// else they are compared before the next increment, on every node
	t.counters.sure = !t.counters.reach.lifts(steps[last])
	return steps[last].Pos, nil
}

// enter begins a transaction at before. The session is to be given back. The place beside an error says where the
// database stands, as far as that is known. Counters are put where they belong before; by unsettled, when a change of
// the schema may have been done that the position does not count. Steps that may ask what another has left in the
// session get a new one.
func (t *Database) enter(ctx context.Context, before event.Position, steps []step,
	unsettled func(context.Context, *session, place) error) (*session, place, error) {
	s, err := t.session(ctx)
	if err != nil {
		return nil, place{pos: before}, err
	}
	for {
		see := t.begin
		if !t.counters.sure {
			see = t.look
		}
		p, err := see(ctx, s)
		if err != nil {
			t.giveBack(ctx, s)
			return nil, place{pos: before}, err
		}
		if err = t.compare(p.pos, before); err != nil {
			t.counters.forget() // what has moved the position may have moved all else
			t.giveBack(ctx, s)
			return nil, p, err
		}
		switch {
		case p.missing:
			t.giveBack(ctx, s)
			err = t.create(ctx, s)
		case t.counters.sure && s.worn && t.asks(s, steps):
			t.giveBack(ctx, s)
			s.close()
			if s, err = t.session(ctx); err != nil {
				return nil, place{pos: before}, err
			}
		case t.counters.sure:
			s.worn = true
			return s, p, nil
		case s.xa: // the database was lost and taken again right now: they are compared before the transaction begins
			t.giveBack(ctx, s)
		case p.ddl.pos.Seq == 0:
			err = t.putBack(ctx, s, nil)
		default:
			err = unsettled(ctx, s, p)
		}
		if err != nil {
			t.giveBack(ctx, s)
			return nil, place{pos: before}, err
		}
	}
}

// asks reports whether steps may ask what another has left in a session.
func (t *Database) asks(s *session, steps []step) bool {
	first := steps[0].Work
	return first.asks || first.leaks && s.calls.dynamic || s.calls.opaque || t.counters.reach.asks.last
}

// compare is nodeclient.CheckAdvance that remembers a commit nobody answered.
func (t *Database) compare(stored, before event.Position) error {
	doubt := t.doubt
	t.doubt = event.Position{}
	if !doubt.Zero() && stored == doubt && stored != before {
		return nodeclient.Transient(fmt.Errorf("mysql: a commit whose answer was lost is stored after all: going on after "+
			"%d", stored.Seq))
	}
	return t.hold.Advance(stored, before)
}

// countOne goes before an increment that may ask how many rows the query before has found: always one.
const countOne = "SELECT 1"

// ref is a statement that was sent: the index of its step, and its own in that.
type ref struct{ step, at int }

// errWhich says that a statement failed and nobody noted which one.
var errWhich = errors.New("a statement of the batch failed")

// run sends all statements of a transaction, and the moving of the position, a chunk at a time without waiting in
// between. Before each statement it notes in @xmq_at which one comes. It returns the index of the failing step. With
// inline set, increments of one plain statement carry their pins in it and are not noted, which saves half of the
// statements; what fails is then errWhich, and run again without.
func (t *Database) run(ctx context.Context, s *session, stored event.Position, steps []step, inline bool) (int, error) {
	c := chunks{ctx: ctx, session: s, limit: min(maxChunk, s.packet/2)}
	begun := time.Now()
	t.counters.sure, t.counters.ours = false, true // until the commit
	read, told, gave := t.counters.reach.follow(steps, t.counters.gave)
	t.counters.gave = nil
	moved := t.counters.reach.value(t.cfg.DBName, read, told)
	unnoted := false
	var sent []ref
	for i, st := range steps {
		if text := st.Work.statements; inline && st.Work.plain && len(text[0].Text)+maxPins < s.packet {
			unnoted = true
			sent = append(sent, ref{i, 0})
			c.add("SET STATEMENT " + pin(st)[len(", "):] + " FOR " + text[0].Text)
			continue
		}
		for k, statement := range st.Work.statements {
			if len(statement.Text) >= s.packet {
				return i, t.failure(steps, ref{i, k}, tooLong(statement.Text, s.packet))
			}
			switch note := "SET @xmq_at = " + strconv.Itoa(len(sent)); {
			case k == 0:
				if s.calls.any {
					c.add(t.flavour.pins)
				}
				if st.Work.counts || t.counters.reach.asks.counts {
					c.add(countOne)
				}
				c.add(note + pin(st) + s.calls.resets)
			case !st.Work.counts:
				c.add(note)
			}
			sent = append(sent, ref{i, k})
			c.add(statement.Text)
		}
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	c.add("SET @xmq_at = " + strconv.Itoa(len(sent)))
	c.add(advance(stored, steps[len(steps)-1].Pos, apply.LastTime(steps), recorded(moved)))
	c.flush()
	if c.err == nil && c.found == 1 {
		t.counters.gave = gave
		return 0, nil
	}
	if c.err == nil {
		return apply.Unknown, unmoved(steps, fmt.Errorf("moving the position found %d rows instead of one", c.found))
	}
	// one that was raised comes at once
	if connFailed(c.err) || number(c.err) == lockTimeout && time.Since(begun) > lockWait/2 {
		err := fmt.Errorf("mysql: apply %d to %d: %w", steps[0].Seq(), steps[len(steps)-1].Seq(), c.err)
		if wasKilled(ctx, c.err) {
			return apply.Unknown, said(err)
		}
		return 0, nodeclient.Transient(err)
	}
	if unnoted {
		return 0, errWhich
	}
	rows, err := s.query(ctx, "SELECT @xmq_at")
	if err != nil {
		err = fmt.Errorf("mysql: apply %d to %d: %w; ask which increment failed: %v", steps[0].Seq(),
			steps[len(steps)-1].Seq(), c.err, err)
		if wasKilled(ctx, c.err) {
			return apply.Unknown, said(err)
		}
		return 0, nodeclient.Transient(err)
	}
	n, err := strconv.Atoi(rows[0][0])
	if err != nil || n >= len(sent) {
		return apply.Unknown, unmoved(steps, said(c.err))
	}
	return sent[n].step, t.failure(steps, sent[n], said(c.err))
}

// wasKilled reports whether somebody at the server has ended what ran: an administrator, or the increment itself.
func wasKilled(ctx context.Context, err error) bool {
	n := number(err)
	return (n == killed || n == interrupted) && ctx.Err() == nil
}

func tooLong(text string, packet int) error {
	return fmt.Errorf("a statement of %d bytes is longer than the server takes (max_allowed_packet = %d)", len(text),
		packet)
}

// failure is the FAIL of a statement.
func (t *Database) failure(steps []step, at ref, err error) error {
	s := steps[at.step]
	onlyOf(s.Work.statements[at.at].Text, err)
	if number(err) == inTransaction {
		err = fmt.Errorf("a procedure or block may neither commit, roll back nor change the schema, since the position is "+
			"stored with what it does: %w", err)
	}
	if hint := t.flavour.hints[number(err)]; hint != "" {
		err = fmt.Errorf("%w (%s)", err, hint)
	}
	st := s.Work.statements[at.at]
	return fmt.Errorf("mysql: increment %d: %w, in %s: %s", s.Seq(), err, st.Where(), apply.Start(st.Text))
}

// near is how the server quotes what follows the place of a syntax error: up to 80 characters.
var near = regexp.MustCompile(`(?s)near '(.*)' at line `)

// onlyOf cuts from what the server quotes of a batch what does not belong to the statement that failed: the writer has
// not written it.
func onlyOf(text string, err error) {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return
	}
	at := near.FindStringSubmatchIndex(e.Message)
	if at == nil {
		return
	}
	quoted := e.Message[at[2]:at[3]]
	if strings.Contains(text, quoted) {
		return
	}
	n := len(quoted)
	for ; n > 0 && !strings.HasSuffix(text, quoted[:n]); n-- {
	}
	e.Message = e.Message[:at[2]] + quoted[:n] + e.Message[at[3]:]
}

// maxPins is more than the pins of a plain increment and the words around them are long.
const maxPins = 256

// pin is what an increment's clock, random numbers and variables stand at when it begins, the same on each node however
// batches
// fall.
func pin(s step) string {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, [2]uint64{s.Seq(), uint64(s.Time)}) // a hash never fails
	seed := h.Sum64()
	const most = 0x3FFFFFFF // of the server's random numbers
	return fmt.Sprintf(", timestamp = %d.%06d, rand_seed1 = %d, rand_seed2 = %d, last_insert_id = 0%s", s.Time/1e9,
		s.Time%1e9/1e3, seed>>32%most, seed%most, s.Work.resets)
}

// chunks sends statements, many in one packet.
type chunks struct {
	ctx     context.Context
	session *session
	limit   int
	text    strings.Builder
	found   int64 // rows of the last statement sent
	err     error
}

// add sends what has gathered when the statement does not fit in with it. After an error nothing more is sent.
func (c *chunks) add(statement string) {
	if c.text.Len() > 0 && c.text.Len()+len(statement)+2 > c.limit {
		c.flush()
	}
	if c.text.Len() > 0 {
		c.text.WriteString(";\n")
	}
	c.text.WriteString(statement)
}

func (c *chunks) flush() {
	if c.err == nil && c.text.Len() > 0 {
		c.found, c.err = c.session.exec(c.ctx, c.text.String())
	}
	c.text.Reset()
}

// unmoved judges a position that does not move although it was locked: the increments have touched it, or raise what
// may pass, by ways that words do not show. Which one is found by applying them alone; that one is a FAIL.
func unmoved(steps []step, err error) error {
	if nodeclient.IsTransient(err) {
		return fmt.Errorf("mysql: increment %d: move the position: %w", steps[len(steps)-1].Seq(), err)
	}
	return fmt.Errorf("mysql: increment %d: it changes the table in which XMQ keeps its position: %w", steps[0].Seq(), err)
}

// settle answers for a commit that returned an error. Whatever it was, the position read back over a new session
// tells; that waits for the old session to end.
func (t *Database) settle(ctx context.Context, before, stored, last event.Position, at int,
	failed error) (event.Position, *apply.Failure) {
	t.s.close()
	if last == stored { // outside the order: the position tells nothing
		return before, apply.Fail(0, nodeclient.Unknown(fmt.Errorf("mysql: the answer to the commit was lost, and whether "+
			"it is stored is not known: %w", failed)))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	now, err := t.Position(ctx)
	switch {
	case err != nil && !nodeclient.IsFatal(err):
		t.doubt = last
		return before, apply.Fail(at, nodeclient.Transient(fmt.Errorf("mysql: whether the commit of %d is stored is "+
			"unknown until the server answers again: %w; %w", last.Seq, failed, err)))
	case err != nil:
		return before, apply.Fail(at, err)
	case now == last:
		return now, nil
	case now == stored:
		return before, apply.Fail(at, nodeclient.Transient(fmt.Errorf("mysql: the commit of %d failed and nothing of it "+
			"is stored: %w", last.Seq, failed)))
	}
	return now, apply.Fail(at, fmt.Errorf("mysql: after a failed commit of %d: %w: %w", last.Seq,
		t.hold.Advance(now, stored), failed))
}
