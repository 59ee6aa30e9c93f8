package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// SQLSTATEs that are looked for by name.
const (
	insufficient    = "42501"
	missingDatabase = "3D000"
	wrongPassword   = "28P01"
	objectInUse     = "55006"
	unprepared      = "26000"
)

// code is the SQLSTATE in err; "" when the server did not say it.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// transient is the one table of error classes, by SQLSTATE: these may pass. Every other one (constraint, syntax,
// missing object, wrong type, anything unknown) is the increment's FAIL (XD-20, XN-8). Fatal is no SQLSTATE
// but a position that is not ours. A function can raise any of them, so that one said to a statement is also told to
// apply.Patience.
func transient(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03": // the server is stopped, crashed or starts
		return true
	case "57014": // an administrator has cancelled it: nothing is said about the increment
		return true
	case "08P01": // the message was wrong, not the connection
		return false
	case "40001", "40P01": // serialization, deadlock
		return true
	case "55P03": // lock timeout
		return true
	case "25006": // the server is a standby or was made read only
		return true
	case "58030": // the server's disk cannot be read or written
		return true
	}
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") // connection; disk, memory, connections used up
}

// classify marks err. An error that is classed already keeps its class; a FAIL has no mark. Trouble without a
// SQLSTATE is the connection to the server, or our context.
func classify(err error) error {
	if err == nil || nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	if connFailed(err) || transient(code(err)) {
		return nodeclient.Transient(err)
	}
	return err
}

// said is classify for the answer to a statement of an increment.
func said(err error) error {
	if c := code(err); transient(c) {
		return apply.Said(c, err)
	}
	return classify(err)
}

// broken reports whether the position cannot be read because of what its table is, which a reader finds again and
// again.
func broken(err error) bool {
	c := code(err)
	return strings.HasPrefix(c, "42") && c != insufficient || strings.HasPrefix(c, "XX")
}

// connFailed reports whether err is trouble of the connection itself: whatever was asked, the answer is not known.
func connFailed(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return true
	}
	severity := e.SeverityUnlocalized
	if severity == "" {
		severity = e.Severity
	}
	return severity == "FATAL" || severity == "PANIC"
}
