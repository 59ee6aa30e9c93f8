package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/sqltext"
)

// work is an increment that has been looked at.
type work struct {
	statements []sqltext.Statement
	defers     bool // it speaks of deferring
	plain      bool // it only reads and changes rows
	asks       bool // it asks what the statement before has done
	unchecked  bool // foreign keys are not checked while it runs
}

// step is one item of a batch, ready to run.
type step = apply.Step[work]

// Apply implements nodeclient.Database. Errors of SQLite are classed as in classify; the text of a FAIL names the
// increment, what SQLite said and the beginning of the statement.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	steps, refused := apply.Prepare("sqlite", before, items, parse)
	if len(steps) == 0 {
		return before, refused
	}
	c, release, err := t.conn(ctx)
	if err != nil {
		return before, err
	}
	defer release()
	in, err := readSchema(ctx, c, steps)
	if err != nil {
		return before, err
	}
	for i := range steps {
		steps[i].Work.asks = steps[i].Work.asks || in.asks
	}
	alone := func(w *work) bool { return in.defers || in.totals || !w.plain }
	return apply.Apply(before, steps, refused, &t.patience, alone,
		func(before event.Position, steps []step) (event.Position, *apply.Failure) {
			if !in.totals {
				return t.transact(ctx, c, before, steps)
			}
			fresh, done, err := t.fresh(ctx)
			if err != nil {
				return before, apply.Fail(0, err)
			}
			defer done()
			return t.transact(ctx, fresh, before, steps)
		})
}

// transact runs steps and moves the position in one transaction. On a failure nothing is committed, unless
// the commit's outcome was unknown and the position read back says otherwise.
func (t *Database) transact(ctx context.Context, c *sql.Conn, before event.Position, steps []step) (event.Position,
	*apply.Failure) {
	if steps[0].Work.unchecked && !t.opts.IgnoreForeignKeys {
		if err := exec(ctx, c, "PRAGMA foreign_keys = OFF"); err != nil {
			return before, apply.Fail(0, classify(fmt.Errorf("sqlite: leave foreign keys unchecked: %w", err)))
		}
		defer recheck(c)
	}
	stored, at, err := t.attempt(ctx, c, before, steps, maxChunk)
	if errors.Is(err, errWhich) {
		stored, at, err = t.attempt(ctx, c, before, steps, 0)
	}
	if err != nil {
		return stored, apply.Fail(at, err)
	}
	last := len(steps) - 1
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := t.commit(ctx, c); err != nil {
		pos, err := t.settle(ctx, c, stored, steps[last].Pos, err)
		if err != nil {
			return pos, apply.Fail(last, err)
		}
	}
	return steps[last].Pos, nil
}

// maxChunk is how many bytes of statements are run at once, unless one is longer. Each run costs as much as parsing a
// short statement.
const maxChunk = 64 << 10

// errWhich says that one statement of a chunk failed: they have to be run one by one.
var errWhich = errors.New("a statement of the batch failed")

// attempt is run, rolled back and classed when it fails.
func (t *Database) attempt(ctx context.Context, c *sql.Conn, before event.Position, steps []step,
	chunk int) (event.Position, int, error) {
	stored, at, err := run(ctx, c, before, steps, chunk)
	if err == nil {
		return stored, at, nil
	}
	if rollback := exec(context.WithoutCancel(ctx), c, "ROLLBACK"); rollback != nil && code(rollback) != codeError {
		err = nodeclient.Transient(fmt.Errorf("%w; and the rollback failed: %w", err, rollback))
	}
	if errors.Is(err, errWhich) {
		return stored, at, err
	}
	return stored, at, t.verdict(ctx, c, err)
}

// run does everything of a transaction but its end, at most chunk bytes of statements at once and never less than
// one. It returns the position that is stored as long as nothing is committed, and the index of the failing step.
func run(ctx context.Context, c *sql.Conn, before event.Position, steps []step, chunk int) (event.Position, int,
	error) {
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
	if stored.Zero() && slices.ContainsFunc(steps, func(s step) bool { return s.Work.asks }) {
		if err := exec(ctx, c, createPosition); err != nil {
			return stored, 0, fmt.Errorf("sqlite: make the table of the position: %w", err)
		}
	}
	if chunk > 0 {
		if err := runChunks(ctx, c, steps, chunk); err != nil {
			return stored, 0, err
		}
	} else {
		for i, s := range steps {
			if s.Work.asks {
				if err := exec(ctx, c, forget); err != nil {
					return stored, i, fmt.Errorf("sqlite: increment %d: forget what the one before has done: %w", s.Seq(), err)
				}
			}
			for _, st := range s.Work.statements {
				if err := exec(ctx, c, st.Text); err != nil {
					err = fmt.Errorf("sqlite: increment %d: %w, in %s: %s", s.Seq(), said(err), st.Where(), apply.Start(st.Text))
					return stored, i, err
				}
			}
		}
	}
	if len(steps) == 1 && !steps[0].Work.plain { // others are never in company
		if err := stays(ctx, c); err != nil {
			return stored, 0, fmt.Errorf("sqlite: increment %d: %w", steps[0].Seq(), err)
		}
	}
	failpoint.Hit(failpoint.AppliedBeforeSeq)
	if err := advance(ctx, c, stored, steps[len(steps)-1].Pos, apply.LastTime(steps)); err != nil {
		return stored, apply.Unknown, fmt.Errorf("sqlite: increment %d: move the position: %w", steps[len(steps)-1].Seq(),
			err)
	}
	return stored, 0, nil
}

// said marks what a statement of an increment may have caused and may not: SQLite has no memory for it, or a lock
// within its own connection is in the way.
func said(err error) error {
	switch code(err) {
	case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return apply.Said(strconv.Itoa(extended(err)), err)
	}
	return err
}

// mixes are the words that begin statements which may be run together. SQLite keeps the text of others, with what
// stands after it, and every copy shall have the same.
var mixes = []string{"INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "WITH"}

// forget makes changes() and last_insert_rowid() 0: they tell of the statement before, whosever it was, and a rollback
// does not take that back.
const forget = "SAVEPOINT xmq_forget; INSERT INTO main.xmq_position (rowid, log_id, seq, chain) VALUES (0, '', 0, " +
	"''); ROLLBACK TO xmq_forget; " +
	"RELEASE xmq_forget; UPDATE main.xmq_position SET seq = seq WHERE 0;\n"

// runChunks runs the statements of all steps, many at once. What one of them may have caused is errWhich.
func runChunks(ctx context.Context, c *sql.Conn, steps []step, limit int) error {
	var text strings.Builder
	flush := func() error {
		if text.Len() == 0 {
			return nil
		}
		err := exec(ctx, c, text.String())
		text.Reset()
		if err == nil || nodeclient.IsTransient(classify(err)) && !nodeclient.IsTransient(said(err)) &&
			code(err) != sqlite3.SQLITE_FULL {
			return err
		}
		return errWhich
	}
	for _, s := range steps {
		if s.Work.asks {
			text.WriteString(forget)
		}
		for _, st := range s.Work.statements {
			alone := !slices.Contains(mixes, st.Keyword)
			if alone || text.Len()+len(st.Text) > limit {
				if err := flush(); err != nil {
					return err
				}
			}
			text.WriteString(st.Text)
			if !alone {
				text.WriteString("\n;\n") // it may end with a comment
			} else if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// recheck lets a connection check foreign keys again. One that does not is not used again.
func recheck(c *sql.Conn) {
	var on int
	ctx := context.Background() // it must be done
	err := exec(ctx, c, "PRAGMA foreign_keys = ON")
	if err == nil {
		err = c.QueryRowContext(ctx, "PRAGMA foreign_keys").Scan(&on)
	}
	if err != nil || on != 1 {
		_ = c.Raw(func(any) error { return driver.ErrBadConn }) // which is what it returns
	}
}

// settle answers for a commit that returned an error. A deferred constraint keeps the transaction open and is
// the increment's own fault; after anything else the stored position says what happened.
func (t *Database) settle(ctx context.Context, c *sql.Conn, stored, pos event.Position, failed error) (event.Position,
	error) {
	ctx = context.WithoutCancel(ctx)
	undone := exec(ctx, c, "ROLLBACK") // fails when SQLite has done it, or has committed
	if code(failed) == sqlite3.SQLITE_CONSTRAINT {
		return stored, fmt.Errorf("sqlite: increment %d: %w, at its commit", pos.Seq, failed)
	}
	if pos == stored && undone != nil { // outside the order: the position tells nothing
		return stored, nodeclient.Unknown(fmt.Errorf("sqlite: the commit failed, and whether it is stored is not known: %w",
			failed))
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
	case now == pos && pos != stored:
		return pos, nil
	case now == stored:
		return stored, nodeclient.Transient(fmt.Errorf("sqlite: the commit of %d failed and nothing of it is stored: %w",
			pos.Seq, failed))
	}
	return now, fmt.Errorf("sqlite: after a failed commit of %d: %w: %w", pos.Seq, nodeclient.CheckAdvance(now, stored),
		failed)
}

// schema is what the schema says of how increments are to run. Words decide: SQL of SQLite cannot be put together when
// it runs.
type schema struct {
	// defers: a foreign key may be deferred to the commit. Then a group of increments could succeed where one of them
	// alone fails, and nodes with other groups would differ.
	defers bool
	// asks: a trigger, view, default or check asks what the statement before has done, whosever that was.
	asks bool
	// totals: one counts all changes of the connection. Increments may not make such a thing; a database may bring it.
	totals bool
}

// readSchema reads that, also of what steps are about to make.
func readSchema(ctx context.Context, c *sql.Conn, steps []step) (in schema, err error) {
	in.defers = slices.ContainsFunc(steps, func(s step) bool { return s.Work.defers })
	in.asks = slices.ContainsFunc(steps, func(s step) bool { return s.Work.asks && !s.Work.plain })
	rows, err := c.QueryContext(ctx, "SELECT lower(sql) FROM main.sqlite_schema WHERE sql LIKE '%deferred%' OR "+
		"sql LIKE '%changes%' OR sql LIKE '%last_insert_rowid%'")
	if err != nil {
		return in, classify(fmt.Errorf("sqlite: read the schema: %w", err))
	}
	for rows.Next() && err == nil {
		var text string
		err = rows.Scan(&text)
		in.defers = in.defers || strings.Contains(text, "deferred")
		in.asks = in.asks || asks(text)
		in.totals = in.totals || strings.Contains(text, "total_changes")
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return in, classify(fmt.Errorf("sqlite: read the schema: %w", err))
	}
	return in, nil
}

// asks reports whether a text in lower case asks what the statement before has done.
func asks(lower string) bool {
	return strings.Contains(lower, "changes") || strings.Contains(lower, "last_insert_rowid")
}
