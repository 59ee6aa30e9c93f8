package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// positionTable is the name that increments may not mention.
const positionTable = "xmq_position"

const createPosition = `CREATE TABLE IF NOT EXISTS main.xmq_position (log_id TEXT NOT NULL, seq INTEGER NOT NULL, ` +
	`chain TEXT NOT NULL, updated_at TEXT, topics TEXT)`

// readPosition returns the stored position; zero when there is no table. A table that does not hold exactly one
// good row is Fatal.
func readPosition(ctx context.Context, c *sql.Conn) (event.Position, error) {
	fail := func(err error) (event.Position, error) {
		err = fmt.Errorf("sqlite: read the position: %w", err)
		if classed := classify(err); nodeclient.IsTransient(classed) {
			return event.Position{}, classed
		}
		return event.Position{}, nodeclient.Fatal(err)
	}
	var tables int
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = "+
		"'xmq_position'").Scan(&tables); err != nil {
		return fail(err)
	}
	if tables == 0 {
		return event.Position{}, nil
	}
	var rows int
	var log, chain sql.NullString
	var seq sql.NullInt64
	err := c.QueryRowContext(ctx, "SELECT count(*), max(log_id), max(seq), max(chain) FROM main.xmq_position").Scan(&rows,
		&log, &seq, &chain)
	if err != nil {
		return fail(err)
	}
	if rows != 1 {
		return fail(fmt.Errorf("the table xmq_position has %d rows instead of one: this copy has lost its position; restore "+
			"it from another node, or seek if you know its position", rows))
	}
	pos := event.Position{Seq: uint64(seq.Int64)}
	if pos.Log, err = event.ParseLogID(log.String); err != nil {
		return fail(err)
	}
	if pos.Chain, err = event.ParseChain(chain.String); err != nil {
		return fail(err)
	}
	return pos, nil
}

// advance moves the position inside the open transaction from stored to pos: compare and set, exactly one
// row. at is the broker time of the last increment applied, in nanoseconds; 0 keeps the stored one.
func advance(ctx context.Context, c *sql.Conn, stored, pos event.Position, at int64) error {
	if stored.Zero() {
		if err := exec(ctx, c, createPosition); err != nil {
			return err
		}
		return exec(ctx, c, "INSERT INTO main.xmq_position (log_id, seq, chain, updated_at) VALUES (?, ?, ?, ?)",
			pos.Log.String(), int64(pos.Seq), pos.Chain.String(), brokerTime(at))
	}
	res, err := c.ExecContext(ctx, `UPDATE main.xmq_position SET log_id = ?, seq = ?, chain = ?,
		updated_at = coalesce(?, updated_at) WHERE log_id = ? AND seq = ? AND chain = ?`,
		pos.Log.String(), int64(pos.Seq), pos.Chain.String(), brokerTime(at), stored.Log.String(), int64(stored.Seq),
		stored.Chain.String())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("it changed %d rows instead of one, although the position was there: an increment has touched it",
			n)
	}
	return nil
}

// replacePosition puts pos in the place of whatever stands in the table. The topics of a single row stay.
func replacePosition(ctx context.Context, c *sql.Conn, pos event.Position) error {
	if err := addTopics(ctx, c); err != nil {
		return err
	}
	var at, topics sql.NullString
	const old = "SELECT max(updated_at), CASE WHEN count(*) = 1 THEN max(topics) END FROM main.xmq_position"
	if err := c.QueryRowContext(ctx, old).Scan(&at, &topics); err != nil {
		return err
	}
	if err := exec(ctx, c, "DELETE FROM main.xmq_position"); err != nil {
		return err
	}
	return exec(ctx, c, "INSERT INTO main.xmq_position (log_id, seq, chain, updated_at, topics) VALUES (?, ?, ?, ?, ?)",
		pos.Log.String(), int64(pos.Seq), pos.Chain.String(), at, topics)
}

// hasTopics reports whether the position table, if there is one, has the column that the first revision did not make.
func hasTopics(ctx context.Context, c *sql.Conn) (found bool, err error) {
	err = c.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pragma_table_info('xmq_position', 'main') WHERE name = "+
		"'topics')").Scan(&found)
	return found, err
}

// addTopics gives a position table of the first revision the column, in the open transaction.
func addTopics(ctx context.Context, c *sql.Conn) error {
	if found, err := hasTopics(ctx, c); found || err != nil {
		return err
	}
	return exec(ctx, c, "ALTER TABLE main.xmq_position ADD COLUMN topics TEXT")
}

// keepTopics stores topics beside the position, in the open transaction.
func keepTopics(ctx context.Context, c *sql.Conn, topics event.Topics) error {
	stored, err := readPosition(ctx, c)
	if err != nil {
		return err
	}
	if stored.Zero() {
		return errors.New("there is no position beside which topics could stand")
	}
	if err := addTopics(ctx, c); err != nil {
		return err
	}
	return exec(ctx, c, "UPDATE main.xmq_position SET topics = ?", string(topics))
}

// brokerTime is the same text on every node; nil for 0.
func brokerTime(ns int64) any {
	if ns == 0 {
		return nil
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}
