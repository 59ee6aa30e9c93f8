// Package postgres is the target driver for PostgreSQL, 13 and later. Increments are SQL scripts or one statement
// with arguments; the position lives in the table public.xmq_position of the same database and moves in the same
// transaction as the data.
//
// # Settings
//
// Each connection runs with TimeZone UTC, client_encoding UTF8, DateStyle "ISO, MDY", IntervalStyle postgres,
// standard_conforming_strings on, read committed, read and write, synchronous_commit on, no statement timeout and no
// idle timeout; how numbers, bytes, arrays and XML are written is pinned, too (pinned). search_path is what the URL
// says, else what stands beside the position: what the server gave when that was first written, or the source's of a
// DUMP. The connection must be a direct one: a pooler that shares sessions breaks locks and exported snapshots. The URL
// names one server.
//
// # Increments
//
// A body that begins with { is {"sql": "one statement", "args": [...]}, or {"tx": [...]} with several of them
// (package form). Arguments stand for $1, $2, ... and are sent as text, of whatever type the server finds the
// parameter to be, as with a literal between quotes: where nothing tells it, write $1::int. Bytes are sent as bytea,
// and an object or array is JSON. Any other body is a script, without placeholders. checkPiece and checkStatement say
// what is refused before anything runs. SET LOCAL of search_path and check_function_bodies, as dumps want them, makes
// an increment a transaction of its own.
//
// INSERT, UPDATE and DELETE whose very text comes again, as that of an increment with arguments does, are prepared;
// any other kind of statement ends that, since it may change the schema. (A trigger that changes the types of columns
// is not noticed.)
//
// A batch of INSERT, UPDATE, DELETE and MERGE is one transaction: its statements go out without waiting for answers,
// so that a round trip is paid per batch. When one fails, the transaction is rolled back, those before it are applied
// again, and it runs once more alone before it is believed. An increment with any other statement is a transaction of
// its own, and so is each where a constraint is deferrable, because such a constraint is checked at the commit. What
// the server says may pass (SQLSTATE 40001, 53200, 57014, ...), and says to the same increment alone five times while
// the position can be written, is that increment's FAIL.
//
// No increment reaches another through the session. After one that is a transaction of its own, and after every
// transaction where the database has functions of its own, the session is reset before the next: role, settings,
// temporary objects, advisory locks, LISTEN, currval. Where functions of a batch have changed the session, the batch
// is applied one by one. currval and lastval know only what the increment itself has drawn, and are an error
// elsewhere: one whose words ask for them is a transaction of its own, and where a default, rule, view, policy,
// check, trigger or function may ask, the session forgets its numbers before each increment. A setting that no module
// defines (app.user) stays known to a session for ever: one that has got to know one is closed (remains.go).
//
// What a function or block changes beyond the data (roles, databases, their settings, the definition of xmq_position)
// is seen by locks before the position moves, and is the FAIL of its increment (beyond.go).
//
// Each transaction begins with an advisory lock. It makes a reader of the position wait for the end of a transaction
// whose connection was cut, so that a commit whose answer was lost is never mistaken for none.
//
// What cannot be the same on every node: now(), random(), gen_random_uuid(). Write times and such values into the
// increment.
//
// # Sequences
//
// Generated numbers (nextval, serial, identity columns) are the same on every node. A rollback does not take back
// what nextval and setval have done, and a crash of the server lets a sequence jump ahead; so where each sequence
// stands is stored beside the position, by the transaction that moves both, and is put back before the next increment
// runs, whenever it may differ: on a new connection, after a transaction that was not committed, in a copy. What is
// deferred to the commit is done before the values are read. An increment that fails, or is passed over, has used no
// number. A value that somebody sets by hand is put back, too: publish setval.
//
// Not kept, and named by Notices, are sequences with CACHE above 1, those which the role may not read and set, and
// those that move while this node has done nothing: another writer uses them, and would get a number twice. All of
// them are compared every 10 s for that, which takes a hundredth of the time at most. Sequences of extensions are
// kept once an increment has used them.
//
// # Table public.xmq_position
//
//	log_id      text         16 hexadecimal digits
//	seq         bigint       the last sequence applied
//	chain       text         16 hexadecimal digits
//	updated_at  timestamptz  broker time of the last increment applied; NULL before the first
//	topics      text         the topics the data holds, with commas between; * for all;
//	                         NULL when not known (event.Topics)
//	sequences   jsonb        by name: [last_value, is_called, OID]; last_value is null where another writer uses it.
//	                         NULL when not known
//	moved       jsonb        by OID, of those with a name there: last_value, where it has moved since; is_called is true
//	                         or, where transactions move most of them, one string: version 1, the OIDs, their last_value;
//	                         NULL is one that was not used yet
//	path        text         the search_path by which increments are applied; NULL when not known
//
// The last four are added to the tables of earlier versions.
//
// It has exactly one row, which the unique index xmq_position_one holds. A database without the table is at the zero
// position, whatever else it holds. The table without its row is a copy that lost its position: Fatal.
//
// # Snapshots
//
// A snapshot is a repeatable-read transaction with an exported snapshot and a shared lock on every table: TRUNCATE
// and ALTER TABLE are not subject to snapshots and wait until the dump is done; other increments go on. Who holds a
// table exclusively for longer than a second is named, and the snapshot is tried again later. The values of
// sequences, which are not subject to snapshots either, are those that stand beside the position. pg_dump, of the
// server's major version, writes the data in the custom format; publications and subscriptions are left out. A
// materialized view that holds other rows than its query gives is refused, since a restore can only refresh it,
// unless Options.RefreshViews.
//
// Format "postgres-dump/2" is a stream of package snapstream with magic "XMQPGDMP" and version 2. Its preface is JSON
// (see preface): encoding, collation provider and locale of the database, its search_path, and the values of its
// sequences; its data is the archive of pg_dump. In "postgres-dump/1", which is read as well, the preface is lines of
// setval calls. A restore keeps the snapshot in $TMPDIR until all of it has come, and judges each entry of the
// archive's table of contents: it is the definition of what it names (see makes), a right to it, or data. Rights are
// given by the receiver itself, to the roles that it has. What cannot be loaded because something is named without a
// schema is loaded once more along the source's search_path. Extensions that the role may not make come from the
// database that the fresh one is made from.
//
// # Databases
//
//	DB              the database of the URL
//	DB_xmq_restore  a snapshot being loaded; nothing, once a node opens DB anew
//	DB_xmq_old      what DB was before the last restore; dropped right after the switch, or by the next Open
//
// The two renames of a switch are one transaction, so there is no state between old and new. A restore needs a role
// that owns DB and has CREATEDB, and connects to the maintenance database for that. Privileges and settings of DB
// itself (GRANT CONNECT, ALTER DATABASE SET) are those of the newcomer's, before and after; owners of tables are not
// carried along: its role owns all.
//
// # Lock
//
// A node holds DB by a session advisory lock of the maintenance database, or of DB where its role may not enter that,
// in a session called "xmq node ID" that does nothing else; see lock.go. Each transaction looks whether that session
// still has it. A session whose node is gone is ended by the server after 30 s (TCP keepalive), and after 5 s in the
// middle of a statement when the process is gone.
//
// # Credentials
//
// The password comes from the URL, PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass). It reaches pg_dump and
// pg_restore by their environment only and stands in no error.
package postgres
