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
	return extended(err) & 0xff
}

// extended is the extended result code of SQLite in err; 0 when err has none.
func extended(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// class is what follows from an error.
type class string

const (
	failed    class = "fail"
	transient class = "transient"
	fatal     class = "fatal"
)

// classOf is the one table of error classes, by SQLite's primary result code. What is not in it (constraint, syntax,
// missing object, wrong type, too big, anything unknown) is the increment's FAIL (XD-20, XN-8). What is fatal in it
// is so only of what the driver itself asks for; of an increment's statement see verdict.
func classOf(code int) class {
	switch code {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL: // another connection's lock
		return transient
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM: // the machine's trouble, not the increment's
		return transient
	case sqlite3.SQLITE_INTERRUPT: // our context ended
		return transient
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fatal
	}
	return failed
}

// classify marks err by classOf. An error that is classed already keeps its class; a FAIL has no mark.
func classify(err error) error {
	switch {
	case err == nil || nodeclient.IsTransient(err) || nodeclient.IsFatal(err):
		return err
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nodeclient.Transient(err)
	}
	switch classOf(code(err)) {
	case transient:
		return nodeclient.Transient(err)
	case fatal:
		return nodeclient.Fatal(err)
	}
	return err
}
