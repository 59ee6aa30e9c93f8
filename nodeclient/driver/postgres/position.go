package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
)

const createPosition = "CREATE TABLE IF NOT EXISTS public.xmq_position (log_id text NOT NULL, seq bigint NOT NULL, " +
	"chain text NOT NULL, updated_at timestamptz, topics text, sequences jsonb, moved jsonb, path text)"

// placeKey is the lock that every transaction takes that may move the position.
const placeKey = "6362970911469990003"

// takePlace waits for every transaction that may still move the position, also one whose connection is gone.
const takePlace = "SELECT pg_advisory_xact_lock(" + placeKey + ")"

// createIndex keeps the table from ever having a second row.
const createIndex = "CREATE UNIQUE INDEX IF NOT EXISTS xmq_position_one ON public.xmq_position ((true))"

// look answers: is there a position table; may a constraint be checked at the commit only; are there functions whose
// effects nobody can see beforehand; is the index of the table missing, and may this role make it; which sequences.
var look = "SELECT to_regclass('public.xmq_position') IS NOT NULL, EXISTS (SELECT FROM pg_catalog.pg_constraint " +
	"WHERE condeferrable), " +
	"EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384 AND prolang NOT IN (SELECT oid FROM " +
	"pg_catalog.pg_language WHERE lanname IN ('internal', 'c'))), " +
	"to_regclass('public.xmq_position_one') IS NULL AND EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = " +
	"to_regclass('public.xmq_position') " +
	"AND pg_catalog.pg_has_role(relowner, 'USAGE')) AND pg_catalog.has_schema_privilege('public', 'CREATE'), " +
	sumSequences

// place is what a transaction finds when it begins.
type place struct {
	pos        event.Position // stored, and locked; zero when there is no table
	deferrable bool           // a constraint may be checked at the commit only
	functions  bool           // the database has functions of its own
	bare       bool           // the table has no index yet, and can have one
	sequences  string         // the sum of their OIDs; "0" without any
	held       bool           // the node has the database
}

// opening begins every transaction.
const opening = "BEGIN ISOLATION LEVEL READ COMMITTED"

// begin opens a transaction after the script before and looks at the place; held is an expression that tells whether
// the node still has its lock. On an error the transaction may be open.
func begin(ctx context.Context, c *pgconn.PgConn, before, held string) (p place, err error) {
	results, err := c.Exec(ctx, before+opening+"; "+takePlace+"; "+look+", "+held).ReadAll()
	if err != nil {
		return p, passing(classify(fmt.Errorf("postgres: begin: %w", err)))
	}
	return found(ctx, c, results[len(results)-1].Rows[0])
}

// found takes the answer to look, and reads the position.
func found(ctx context.Context, c *pgconn.PgConn, row [][]byte) (p place, err error) {
	yes := func(i int) bool { return string(row[i]) == "t" }
	p = place{deferrable: yes(1), functions: yes(2), bare: yes(3), sequences: string(row[4]), held: yes(5)}
	if yes(0) {
		p.pos, err = readPosition(ctx, c, " FOR UPDATE")
	}
	return p, err
}

// begin is the function begin with what it asks prepared, as far as that is known to the session: to plan it takes much
// longer than to run it.
func (t *Database) begin(ctx context.Context, c *pgconn.PgConn, before, held string) (place, error) {
	t.templates.of(c)
	look := look + ", " + held
	if d := t.numbers.direct; d.votes == 0 && !d.line { // which sequences there are is of no matter
		look = strings.Replace(look, sumSequences, anySequence, 1)
	}
	name, fresh := t.templates.asks(look)
	if before != "" || name == "" {
		return begin(ctx, c, before, held)
	}
	p := c.StartPipeline(ctx)
	p.SendQueryParams(opening, nil, nil, nil, nil)
	p.SendQueryParams(takePlace, nil, nil, nil, nil)
	if fresh {
		p.SendPrepare(name, look, nil)
	}
	p.SendQueryPrepared(name, nil, nil, nil)
	err := p.Sync()
	var row [][]byte
	for range 2 {
		if err == nil {
			_, err = answer(p, false)
		}
	}
	if err == nil {
		var reader *pgconn.ResultReader
		if reader, err = next(p, fresh); err == nil {
			r := reader.Read()
			if err = r.Err; err == nil {
				row = r.Rows[0]
			}
		}
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	switch {
	case code(err) == unprepared: // by a function of an increment
		t.templates.failed()
		giveBack(ctx, c)
		return begin(ctx, c, before, held)
	case err != nil:
		t.templates.failed()
		return place{}, passing(classify(fmt.Errorf("postgres: begin: %w", err)))
	}
	return found(ctx, c, row)
}

// passing marks what is about no increment.
func passing(err error) error {
	if nodeclient.IsFatal(err) {
		return err
	}
	return nodeclient.Transient(err)
}

// readPosition reads the one row of the position table, which is there; lock goes after the query. A table that
// is another, or does not hold exactly one good row, is Fatal; all other trouble may pass.
func readPosition(ctx context.Context, c *pgconn.PgConn, lock string) (event.Position, error) {
	rows, err := query(ctx, c, "SELECT log_id, seq, chain FROM public.xmq_position"+lock)
	if err != nil {
		err = fmt.Errorf("postgres: read the position: %w", err)
		if broken(err) {
			return event.Position{}, nodeclient.Fatal(err)
		}
		return event.Position{}, nodeclient.Transient(err)
	}
	fail := func(err error) (event.Position, error) {
		return event.Position{}, nodeclient.Fatal(fmt.Errorf("postgres: read the position: %w", err))
	}
	if len(rows) != 1 {
		return fail(fmt.Errorf("the table xmq_position has %d rows instead of one: this copy has lost its position; restore "+
			"it from another node, or seek if you know its position", len(rows)))
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
// stored one. bare says that the table gets its index now. numbers says that a sequence may have moved: the last
// statement is move then, which answers with a row; foreign are those of others. direct are those that moveDirect takes
// instead.
func advance(stored, pos event.Position, at int64, bare, numbers bool, foreign, direct []string) []statement {
	args := [][]byte{[]byte(pos.Log.String()), strconv.AppendUint(nil, pos.Seq, 10), []byte(pos.Chain.String()),
		brokerTime(at)}
	if stored.Zero() {
		return []statement{{text: createPosition}, {text: createIndex}, {text: "INSERT INTO public.xmq_position (log_id, " +
			"seq, chain, updated_at, path) VALUES ($1, $2, $3, $4, (" + sessionPath + "))", args: args}}
	}
	args = append(args, []byte(stored.Log.String()), strconv.AppendUint(nil, stored.Seq, 10),
		[]byte(stored.Chain.String()))
	last := statement{text: "UPDATE public.xmq_position SET log_id = $1, seq = $2, chain = $3, " +
		"updated_at = coalesce($4, updated_at) WHERE log_id = $5 AND seq = $6 AND chain = $7", args: args}
	switch {
	case len(direct) > 0:
		last = statement{text: moveDirect, args: append(args, []byte("{"+strings.Join(direct, ",")+"}"))}
	case numbers:
		last = statement{text: move, args: append(args, []byte("{"+strings.Join(foreign, ",")+"}"))}
	}
	if bare {
		return []statement{{text: createIndex}, last}
	}
	return []statement{last}
}

// replacePosition puts pos in the place of whatever stands in the table, within an open transaction. Topics, sequences
// and path of a single row stay.
func replacePosition(ctx context.Context, c *pgconn.PgConn, pos event.Position) error {
	if err := execute(ctx, c, createPosition); err != nil {
		return err
	}
	if err := addColumns(ctx, c); err != nil {
		return err
	}
	sql := "WITH old AS (DELETE FROM public.xmq_position RETURNING updated_at, topics, sequences, moved, path)" +
		" INSERT INTO public.xmq_position (log_id, seq, chain, updated_at, topics, sequences, moved, path) SELECT '" +
		pos.Log.String() + "', " + strconv.FormatUint(pos.Seq, 10) + ", '" + pos.Chain.String() +
		"', max(updated_at), CASE WHEN count(*) = 1 THEN max(topics) END, " +
		"CASE WHEN count(*) = 1 THEN (array_agg(sequences))[1] END, " +
		"CASE WHEN count(*) = 1 THEN (array_agg(moved))[1] END, CASE WHEN count(*) = 1 THEN max(path) END FROM old"
	return execute(ctx, c, sql+"; "+createIndex) // a second row may have stood there until now
}

// columns are those that a position table of an earlier version lacks.
var columns = []string{"topics text", "sequences jsonb", "moved jsonb", "path text"}

// addColumns gives a position table of an earlier version the columns that it lacks, within an open transaction. It
// locks the table only then, and waits for a dump that reads it, for as long as tablePatience.
func addColumns(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := query(ctx, c, "SELECT attname FROM pg_catalog.pg_attribute "+
		"WHERE attrelid = 'public.xmq_position'::regclass AND attnum > 0 AND NOT attisdropped")
	if err != nil {
		return err
	}
	for _, column := range columns {
		name, _, _ := strings.Cut(column, " ")
		if slices.ContainsFunc(rows, func(row []string) bool { return row[0] == name }) {
			continue
		}
		err := execute(ctx, c, "SET LOCAL lock_timeout = "+tablePatience+"; "+
			"ALTER TABLE public.xmq_position ADD COLUMN "+column+"; SET LOCAL lock_timeout = 0")
		if err != nil {
			return fmt.Errorf("give the table xmq_position, which this node's role must own, its column %s: %w", name, err)
		}
	}
	return nil
}

// tablePatience is how many milliseconds the table of the position is waited for before others are let through again.
const tablePatience = "5000"

// keepTopics stores topics beside the position that stands in the table, within an open transaction.
func keepTopics(ctx context.Context, c *pgconn.PgConn, topics event.Topics) error {
	if err := addColumns(ctx, c); err != nil {
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
