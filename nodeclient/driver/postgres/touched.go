package postgres

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// touched is what a transaction has done to sequences, as the statement that moves the position says.
type touched struct {
	oids  []string // of those that it has moved, or may have moved
	exact []string // of those whose value that statement could not store
	all   bool     // names of any of them may have changed
	much  bool     // the column moved has grown
	line  string   // what moveDirect has written
	// settings is what probing answers after the steps, set that it is another answer than before.
	settings string
	set      bool
	beyond
}

// move moves the position, and writes down where the sequences stand that the transaction has locked, by OID: in the
// column moved, so that the long list is not written again. The function that it asks has no answer for a sequence
// that was not used yet; those, and the ones with locks of other kinds (CREATE, ALTER, TRUNCATE), are left to note.
// The catalog of schemas is locked when one gets another name. The same locks show what was changed beyond the data.
const move = `UPDATE public.xmq_position p SET log_id = $1, seq = $2, chain = $3, updated_at = coalesce($4, updated_at),
	moved = coalesce(p.moved || m.moved, m.moved, p.moved)
	FROM (SELECT pg_catalog.jsonb_object_agg(oid, last) FILTER (WHERE last IS NOT NULL) AS moved,
		pg_catalog.array_agg(oid) FILTER (WHERE mine) AS oids,
		pg_catalog.array_agg(oid) FILTER (WHERE mine AND (strong OR last IS NULL)) AS exact,
		coalesce(pg_catalog.bool_or(oid = 2615), false) AS every, ` + beyondOf + `
	FROM (SELECT oid, mode, strong, mine, CASE WHEN mine THEN pg_catalog.pg_sequence_last_value(oid) END AS last
	FROM (SELECT l.relation AS oid, l.mode, l.mode <> 'RowExclusiveLock' AS strong, NOT l.relation = ANY ($8::oid[]) AND
		coalesce(s.seqcache = 1 AND pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE'), false) AS mine
	FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_sequence s ON s.seqrelid = l.relation
	WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
		AND (s.seqrelid IS NOT NULL OR l.relation IN (2615, ` + sharedCatalogs + `) OR l.relation = ` + ownTable + `)
		OFFSET 0) a) b) m
	WHERE log_id = $5 AND seq = $6 AND chain = $7
	RETURNING m.oids, m.exact, m.every, coalesce(pg_catalog.pg_column_size(p.moved), 0) > 4000, m.catalogs, m.own`

// readTouched takes the answer to move.
func readTouched(row [][]byte) touched {
	oids := func(b []byte) []string {
		if text := strings.Trim(string(b), "{}"); text != "" {
			return strings.Split(text, ",")
		}
		return nil
	}
	return touched{oids: oids(row[0]), exact: oids(row[1]), all: string(row[2]) == "t", much: string(row[3]) == "t",
		beyond: readBeyond(row[4:])}
}

// note writes down, in the open transaction whose statements and moving are done, what move could not.
func (t *Database) note(ctx context.Context, c *pgconn.PgConn, w touched) error {
	n := &t.numbers
	if w.all {
		next, all, err := keepAll(ctx, c)
		if err != nil {
			return err
		}
		n.learn(next)
		for _, l := range all {
			t.sayUnkept(l)
		}
		return nil
	}
	unknown := w.exact
	for _, oid := range w.oids {
		if !n.known[oid] {
			unknown = append(unknown, oid)
		}
	}
	if len(unknown) > 0 {
		if err := t.noteSome(ctx, c, unknown); err != nil {
			return err
		}
	}
	if !w.much {
		return nil
	}
	all, _, _, err := readKept(ctx, c)
	if err != nil {
		return err
	}
	return keep(ctx, c, all)
}

// noteSome writes sequences down, by OID, with their names.
func (t *Database) noteSome(ctx context.Context, c *pgconn.PgConn, oids []string) error {
	array := "{" + strings.Join(oids, ",") + "}"
	all, err := list(ctx, c, " AND c.oid = ANY ($1::oid[])", array)
	if err != nil {
		return err
	}
	values, err := survey(ctx, c, all)
	if err != nil {
		return err
	}
	next := map[string]kept{}
	for _, l := range all {
		t.sayUnkept(l)
		if l.why == "" {
			next[l.name] = kept{values[l.name].Last, values[l.name].Called, l.oid, false}
		}
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	_, err = query(ctx, c, "UPDATE public.xmq_position SET sequences = coalesce(sequences, '{}') || $1, "+
		"moved = coalesce(moved, '{}') - $2::text[]", string(text), array)
	for _, oid := range oids { // also of those that cannot be kept: they are looked at once
		t.numbers.known[oid] = true
	}
	return err
}
