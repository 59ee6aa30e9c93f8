// Package sqltext cuts SQL scripts into statements and finds transaction control in them, for the dialects of SQLite,
// PostgreSQL and MariaDB. It knows tokens and the few shapes in which a semicolon does not end a statement (trigger
// and routine bodies, DELIMITER); it is no parser and judges no statement, but for what no server could read (see
// Structure): that is the database's work. A script is cut where the server would cut it: strings, comments and
// bodies follow the grammar of each server, not that of its client. A body that does not follow it is refused rather
// than cut.
//
// A transaction in a script file is one increment: Split yields its statements together, without BEGIN and COMMIT,
// because a driver runs each increment in a transaction of its own together with the position.
package sqltext

// Dialect says whose SQL a text is written in.
type Dialect uint8

// The dialects. They differ in quotes ([] in SQLite, backslashes in MariaDB, E and $tag$ in PostgreSQL),
// comments (# and executed /*! in MariaDB, nesting in PostgreSQL), bodies, and words that control transactions.
const (
	SQLite Dialect = iota
	PostgreSQL
	MariaDB
)
