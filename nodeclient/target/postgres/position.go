package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
)

const createPosition = "CREATE TABLE IF NOT EXISTS public.xmq_position (log_id text NOT NULL, seq bigint NOT NULL, chain text NOT NULL, updated_at timestamptz, topics text)"

// takePlace waits for every transaction that may still move the position, also one whose connection is gone.
const takePlace = "SELECT pg_advisory_xact_lock(6362970911469990003)"

// look answers two questions: is there a position table, and is any constraint deferrable.
const look = "SELECT to_regclass('public.xmq_position') IS NOT NULL, EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE condeferrable)"

// begin opens a transaction and returns the position stored, locked; zero when there is no table. deferrable
// says that a constraint may be checked at the commit only. On an error the transaction may be open.
func begin(ctx context.Context, c *pgconn.PgConn) (stored event.Position, deferrable bool, err error) {
	results, err := c.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; "+takePlace+"; "+look).ReadAll()
	if err != nil {
		return event.Position{}, false, classify(fmt.Errorf("postgres: begin: %w", err))
	}
	row := results[len(results)-1].Rows[0]
	deferrable = string(row[1]) == "t"
	if string(row[0]) != "t" {
		return event.Position{}, deferrable, nil
	}
	stored, err = readPosition(ctx, c, " FOR UPDATE")
	return stored, deferrable, err
}

// readPosition reads the one row of the position table, which is there; lock goes behind the query. A table that
// does not hold exactly one good row is Fatal.
func readPosition(ctx context.Context, c *pgconn.PgConn, lock string) (event.Position, error) {
	rows, err := query(ctx, c, "SELECT log_id, seq, chain FROM public.xmq_position"+lock)
	if err != nil {
		err = classify(fmt.Errorf("postgres: read the position: %w", err))
		switch {
		case nodeclient.IsTransient(err):
			return event.Position{}, err
		case code(err) == insufficient: // nothing is lost, the role was changed
			return event.Position{}, nodeclient.Transient(err)
		}
		return event.Position{}, nodeclient.Fatal(err)
	}
	fail := func(err error) (event.Position, error) {
		return event.Position{}, nodeclient.Fatal(fmt.Errorf("postgres: read the position: %w", err))
	}
	if len(rows) != 1 {
		return fail(fmt.Errorf("the table xmq_position has %d rows instead of one: this copy has lost its place; restore it from another node, or seek if you know its position", len(rows)))
	}
	var pos event.Position
	if pos.Log, err = event.ParseLogID(rows[0][0]); err != nil {
		return fail(err)
	}
	if pos.Seq, err = strconv.ParseUint(rows[0][1], 10, 63); err != nil {
		return fail(err)
	}
	if pos.Chain, err = event.ParseChain(rows[0][2]); err != nil {
		return fail(err)
	}
	return pos, nil
}

// advance is the statements that move the position from stored to pos: compare and set. The last of them must
// change exactly one row. at is the broker time of the last increment applied, in nanoseconds; 0 keeps the
// stored one.
func advance(stored, pos event.Position, at int64) []statement {
	args := [][]byte{[]byte(pos.Log.String()), strconv.AppendUint(nil, pos.Seq, 10), []byte(pos.Chain.String()), brokerTime(at)}
	if stored.Zero() {
		return []statement{{text: createPosition}, {text: "INSERT INTO public.xmq_position (log_id, seq, chain, updated_at) VALUES ($1, $2, $3, $4)", args: args}}
	}
	args = append(args, []byte(stored.Log.String()), strconv.AppendUint(nil, stored.Seq, 10), []byte(stored.Chain.String()))
	return []statement{{text: "UPDATE public.xmq_position SET log_id = $1, seq = $2, chain = $3, updated_at = coalesce($4, updated_at)" +
		" WHERE log_id = $5 AND seq = $6 AND chain = $7", args: args}}
}

// replacePosition puts pos in the place of whatever stands in the table, within an open transaction. The topics of a single row
// stay.
func replacePosition(ctx context.Context, c *pgconn.PgConn, pos event.Position) error {
	if err := execute(ctx, c, createPosition); err != nil {
		return err
	}
	if err := addTopics(ctx, c); err != nil {
		return err
	}
	sql := "WITH old AS (DELETE FROM public.xmq_position RETURNING updated_at, topics)" +
		" INSERT INTO public.xmq_position (log_id, seq, chain, updated_at, topics) SELECT '" +
		pos.Log.String() + "', " + strconv.FormatUint(pos.Seq, 10) + ", '" + pos.Chain.String() +
		"', max(updated_at), CASE WHEN count(*) = 1 THEN max(topics) END FROM old"
	return execute(ctx, c, sql)
}

// addTopics gives a position table of the first revision the column that it lacks, within an open transaction. It locks the table
// only then: a dump may be reading it.
func addTopics(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := query(ctx, c, "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'public.xmq_position'::regclass AND attname = 'topics' AND NOT attisdropped")
	if err != nil || len(rows) > 0 {
		return err
	}
	return execute(ctx, c, "ALTER TABLE public.xmq_position ADD COLUMN topics text")
}

// keepTopics stores topics beside the position that stands in the table, within an open transaction.
func keepTopics(ctx context.Context, c *pgconn.PgConn, topics event.Topics) error {
	if err := addTopics(ctx, c); err != nil {
		return err
	}
	_, err := query(ctx, c, "UPDATE public.xmq_position SET topics = $1", string(topics))
	return err
}

// brokerTime is the same instant on every node; nil for 0.
func brokerTime(ns int64) []byte {
	if ns == 0 {
		return nil
	}
	return time.Unix(0, ns).UTC().AppendFormat(nil, time.RFC3339Nano)
}
