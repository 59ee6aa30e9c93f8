package mysql

import (
	"errors"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// Error numbers that are looked for by name.
const (
	deniedDatabase  = 1044
	missingDatabase = 1049
	wrongPassword   = 1045
	missingTable    = 1146
	missingXA       = 1397
	inTransaction   = 1399
	lockTimeout     = 1205
	noSuchThread    = 1094
	binlogRoutine   = 1419
	killed          = 1927
	interrupted     = 1317
)

// number is the error number in err; 0 when the server did not say it.
func number(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// transient is the one table of error classes, by error number: these may pass. Every other one (constraint, syntax,
// missing object, wrong type, anything unknown) is the increment's FAIL (XD-20, XN-8). Fatal is no number but a
// position that is not ours. A function can raise any of them (SIGNAL), so that one said to a statement is also told
// to apply.Patience.
func transient(number uint16) bool {
	switch number {
	case 1040, 1203, 1226: // connections are used up: the server's, the user's
		return true
	case 1042, 1043, 1129, 1130, 1152, 1156, 1157, 1158, 1159, 1160, 1161, 1184: // the connection
		return true
	case 1053, 1077, 1079, killed, 3168, 3169: // the server stops, the session was killed
		return true
	case 1028, interrupted, 1969, 3024: // the statement was interrupted, or took longer than an administrator allows
		return true
	case 1020, 1205, 1213, 1412, 1440, 1613, 1614, 1689, 3058, 3101: // lock timeout, deadlock, a table altered meanwhile
		return true
	case 1290, 1792, 1836, 3032: // read only, offline
		return true
	case 1021, 1023, 1026, 1030, 1037, 1038, 1041, 1114, 1135, 1180, 1181: // disk or memory is used up or fails
		return true
	}
	return false
}

// said is classify for the answer to a statement of an increment.
func said(err error) error {
	var r *raised
	if n := number(err); n != 0 && (transient(n) || errors.As(err, &r)) {
		return apply.Said(strconv.Itoa(int(n)), err)
	}
	return classify(err)
}

// broken reports whether the position cannot be read because of what its table is, which a reader finds again and
// again.
func broken(err error) bool {
	switch number(err) {
	case 1054, 1356: // no such column; it is a view of something that is gone
		return true
	case 1017, 1033, 1034, 1035, 1194, 1195, 1712, 1813, 1932: // its files are damaged or gone
		return true
	}
	return false
}

// classify marks err. An error that is classed already keeps its class; a FAIL has no mark. Trouble without a number
// is the connection to the server, or our context.
func classify(err error) error {
	if err == nil || nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	if connFailed(err) || transient(number(err)) {
		return nodeclient.Transient(err)
	}
	return err
}

// connFailed reports whether err is trouble of the connection itself: whatever was asked, the answer is not known.
func connFailed(err error) bool {
	var r *raised
	if errors.As(err, &r) {
		return false
	}
	switch number(err) {
	case 0, 1053, 1077, 1079, killed, 3168, 3169, 1152, 1156, 1157, 1158, 1159, 1160, 1161, 1184:
		return err != nil
	}
	return false
}
