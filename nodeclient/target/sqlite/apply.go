package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/target/sqltext"
)

// step is one item of a batch, ready to run.
type step struct {
	pos        event.Position // after it
	statements []sqltext.Statement
	time       int64 // broker time of the increment; 0 for a pass
}

// failure is a failing step: the FAIL of its increment, or trouble that ends the batch.
type failure struct {
	at  int // index of the step
	err error
}

// Apply implements nodeclient.Target. Errors of SQLite are classed as in classify; the text of a FAIL names the
// increment, what SQLite said and the beginning of the statement.
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

// prepare checks each script before anything runs. refused is the FAIL of the first bad one, which is the
// item right behind steps.
func prepare(batch []event.Item) (steps []step, refused error) {
	steps = make([]step, 0, len(batch))
	for _, item := range batch {
		s := step{pos: item.Pos}
		if item.Record != nil {
			var err error
			if s.statements, err = checkScript(string(item.Record.Body())); err != nil {
				return steps, fmt.Errorf("sqlite: increment %d: %w", item.Pos.Seq, err)
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
	c, release, err := t.conn(ctx)
	if err != nil {
		return before, err
	}
	defer release()
	deferring, err := defers(ctx, c, steps)
	if err != nil {
		return before, err
	}
	if deferring {
		return t.applyAlone(ctx, c, before, steps)
	}
	pos, fail := t.transact(ctx, c, before, steps)
	if fail == nil || fail.at == 0 || nodeclient.IsTransient(fail.err) || nodeclient.IsFatal(fail.err) {
		return pos, fail.error()
	}
	pos, again := t.transact(ctx, c, before, steps[:fail.at])
	if again != nil {
		return pos, again.error()
	}
	return pos, fail.err
}

// applyAlone gives each step its own transaction.
func (t *Target) applyAlone(ctx context.Context, c *sql.Conn, before event.Position, steps []step) (event.Position, error) {
	for i := range steps {
		pos, fail := t.transact(ctx, c, before, steps[i:i+1])
		if fail != nil {
			return pos, fail.error()
		}
		before = pos
	}
	return before, nil
}

func (f *failure) error() error {
	if f == nil {
		return nil
	}
	return f.err
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise.
func (t *Target) transact(ctx context.Context, c *sql.Conn, before event.Position, steps []step) (event.Position, *failure) {
	stored, at, err := run(ctx, c, before, steps)
	if err != nil {
		if rollback := exec(context.WithoutCancel(ctx), c, "ROLLBACK"); rollback != nil && code(rollback) != codeError {
			err = nodeclient.Transient(fmt.Errorf("%w; and the rollback failed: %w", err, rollback))
		}
		return stored, &failure{at, classify(err)}
	}
	last := len(steps) - 1
	if err := t.commit(ctx, c); err != nil {
		pos, err := t.settle(ctx, c, stored, steps[last].pos, err)
		if err != nil {
			return pos, &failure{last, err}
		}
	}
	return steps[last].pos, nil
}

// run does everything of a transaction but its end. It returns the position that is stored as long as nothing
// is committed, and the index of the failing step.
func run(ctx context.Context, c *sql.Conn, before event.Position, steps []step) (event.Position, int, error) {
	if err := exec(ctx, c, "BEGIN IMMEDIATE"); err != nil {
		return before, 0, fmt.Errorf("sqlite: begin: %w", err)
	}
	stored, err := readPosition(ctx, c)
	if err != nil {
		return before, 0, err
	}
	if err := nodeclient.CheckAdvance(stored, before); err != nil {
		return stored, 0, err
	}
	var time int64
	for i, s := range steps {
		if s.time != 0 {
			time = s.time
		}
		for _, st := range s.statements {
			if err := exec(ctx, c, st.Text); err != nil {
				return stored, i, fmt.Errorf("sqlite: increment %d: %w, in line %d: %s", s.pos.Seq, err, st.Line, start(st.Text))
			}
		}
	}
	if err := advance(ctx, c, stored, steps[len(steps)-1].pos, time); err != nil {
		return stored, 0, fmt.Errorf("sqlite: move the position: %w", err)
	}
	return stored, 0, nil
}

// start is the beginning of a statement for a message: at most 200 bytes of it, on one line.
func start(statement string) string {
	return strconv.Quote(statement[:min(len(statement), 200)])
}

// settle answers for a commit that returned an error. A deferred constraint keeps the transaction open and is
// the increment's own fault; after anything else the stored position says what happened.
func (t *Target) settle(ctx context.Context, c *sql.Conn, stored, pos event.Position, failed error) (event.Position, error) {
	ctx = context.WithoutCancel(ctx)
	_ = exec(ctx, c, "ROLLBACK") // fails when SQLite has done it, or has committed
	if code(failed) == sqlite3.SQLITE_CONSTRAINT {
		return stored, fmt.Errorf("sqlite: increment %d: %w, at its commit", pos.Seq, failed)
	}
	fresh, release, err := t.conn(ctx)
	if err != nil {
		return stored, err
	}
	defer release()
	now, err := readPosition(ctx, fresh)
	switch {
	case err != nil:
		return stored, err
	case now == pos:
		return pos, nil
	case now == stored:
		return stored, nodeclient.Transient(fmt.Errorf("sqlite: the commit of %d failed and nothing of it is stored: %w", pos.Seq, failed))
	}
	return now, nodeclient.Fatal(fmt.Errorf("sqlite: after a failed commit of %d the database stands at %s: another hand has written its position: %w", pos.Seq, now, failed))
}

// defers reports whether a foreign key may be deferred to the commit: then a group of increments could
// succeed where one of them alone fails, and nodes with other groups would differ.
func defers(ctx context.Context, c *sql.Conn, steps []step) (bool, error) {
	for _, s := range steps {
		for _, st := range s.statements {
			if strings.Contains(strings.ToLower(st.Text), "defer") {
				return true, nil
			}
		}
	}
	var found bool
	err := c.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE sql LIKE '%deferred%')").Scan(&found)
	if err != nil {
		return false, classify(fmt.Errorf("sqlite: read the schema: %w", err))
	}
	return found, nil
}
