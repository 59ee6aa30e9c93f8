package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"xmq/nodeclient"
)

const codeError = sqlite3.SQLITE_ERROR

// code is the primary result code of SQLite in err; 0 when err has none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// classify is the one table of error classes. What is not in it (constraint, syntax, missing object, wrong
// type, too big, anything unknown) stays unclassed: from Apply that is a FAIL (XD-20, XN-8). An error that is
// classed already keeps its class.
func classify(err error) error {
	if err == nil || nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL: // another connection's lock
		return nodeclient.Transient(err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM: // the machine's trouble, not the increment's
		return nodeclient.Transient(err)
	case sqlite3.SQLITE_INTERRUPT: // our context ended
		return nodeclient.Transient(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return nodeclient.Fatal(err)
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nodeclient.Transient(err)
	}
	return err
}
