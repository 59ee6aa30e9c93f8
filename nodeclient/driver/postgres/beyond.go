package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient/driver/internal/apply"
)

// What an increment changes beyond the data (roles and databases of the server, their settings, the table of the
// position) would make this node another than the rest, often only after a restart. Words refuse it where they show it;
// what functions and blocks do is seen by the locks that the transaction holds: of the catalogs that all databases of a
// server share, and of the table itself. It is the FAIL of that increment, on every node.

// sharedCatalogs are the catalogs of the server that no increment may change.
const sharedCatalogs = "1213, 1260, 1261, 1262, 2964, 6000, 6100, 6243"

// ownTable is the OID of the table of the position.
const ownTable = "(SELECT to_regclass('public.xmq_position'))"

// beyondOf are two columns of a query of locks, with OID and mode: the names of those catalogs that the transaction has
// changed, and whether it has changed the table of the position by more than writing its row.
const beyondOf = `pg_catalog.string_agg(DISTINCT oid::regclass::text, ', ') FILTER (WHERE
		oid IN (` + sharedCatalogs + `) AND mode NOT IN ('AccessShareLock', 'RowShareLock')) AS catalogs,
	coalesce(pg_catalog.bool_or(mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
		AND oid = ` + ownTable + `), false) AS own`

// askBeyond asks for them alone, where move does not.
const askBeyond = "SELECT " + beyondOf + " FROM (SELECT relation AS oid, mode FROM pg_catalog.pg_locks " +
	"WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation') l"

// beyond is what a transaction has changed beyond the data.
type beyond struct {
	catalogs string // names of catalogs
	own      bool   // the table of the position
}

// readBeyond takes the columns of beyondOf.
func readBeyond(row [][]byte) beyond { return beyond{string(row[0]), string(row[1]) != "f"} }

// askedBeyond reads the answer to askBeyond.
func askedBeyond(p *pgconn.Pipeline, st statement) (beyond, error) {
	reader, err := next(p, st.prepared)
	if err != nil {
		return beyond{}, err
	}
	r := reader.Read()
	if r.Err != nil || len(r.Rows) != 1 {
		return beyond{}, said(r.Err)
	}
	return readBeyond(r.Rows[0]), nil
}

// refused is why steps that have changed that may not be committed; nil when they have not.
func (b beyond) refused(steps []step) error {
	switch {
	case b.catalogs == "" && !b.own:
		return nil
	case len(steps) > 1:
		return fmt.Errorf("%w: a function has changed more than data", apply.ErrAlone)
	case b.own:
		return errors.New("it changes the definition of xmq_position, the table in which XMQ keeps its position: leave it " +
			"out")
	}
	return fmt.Errorf("it changes roles or databases of the server, or their settings (%s), which are not data: leave it "+
		"out, and let each node's administrator do it", b.catalogs)
}
