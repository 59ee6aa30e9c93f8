// Package sqlite is the target driver for SQLite databases. Increments are SQL scripts; the position lives in the
// table xmq_position of the same database and moves in the same transaction as the data.
//
// # Settings
//
// Each connection runs with journal_mode=WAL, synchronous=FULL (a commit survives a power cut) and, unless Options
// says otherwise, foreign_keys=ON; an increment that begins with PRAGMA foreign_keys = OFF, as a dump does, runs
// without them. 'localtime' and 'utc' are UTC, whatever the machine's time zone is. Write transactions are BEGIN
// IMMEDIATE. Other processes may read the database at any time; one that holds the write lock makes Apply wait for
// Options.BusyTimeout, then answer Transient. After a restore they must open the file again.
//
// A database may come from another node, so trusted_schema is OFF and cell_size_check ON. No value or row is longer
// than Options.MaxLength, and the file has no more pages than Options.MaxPages. In a target URL:
// sqlite:PATH?max_length=BYTES&max_pages=N.
//
// # Increments
//
// A body that begins with { is {"sql": "one statement", "args": [...]}, or {"tx": [...]} with several of them
// (package form). Arguments stand for ?, ?, ..., or for ?1 or $1 by their numbers, and are written into the statement
// as literals: a number is what SQLite makes of it, an integer of up to 64 bits as it is, any other number a REAL;
// true and false are 1 and 0; bytes are a BLOB; a string, and the JSON of an object or array, is a TEXT, also with a
// NUL in it. Any other body is a script, without placeholders.
//
// A batch of increments is one transaction. When one fails, the transaction is rolled back, those before it are
// applied again, and it runs once more alone before it is believed, also when SQLite itself rolled everything back.
// To give the same result on every node, however its batches fall, an increment may not touch anything that outlives
// it in the connection; see checkPiece for all that is refused. One that leaves something in the schema temp is a
// FAIL, and changes() and last_insert_rowid() are 0 when an increment begins that names them, or each where a
// trigger, view, default or check does. Where one of those, in a database that was brought along, calls
// total_changes(), each increment gets a connection of its own. An increment that does more than read and change rows
// is a transaction of its own, and so is each where a foreign key is deferred, because such a key is checked at the
// commit.
//
// An error of an increment's own statement is never Fatal. What speaks of a damaged database makes the driver look:
// only when SQLite's quick_check of an ordinary table, or the reading of the position, finds damage is the copy lost.
//
// Generated keys need nothing of their own: a rollback and a snapshot take sqlite_sequence (AUTOINCREMENT) along, and
// a table without it counts from its rows. Only after the key 9223372036854775807 SQLite chooses keys at random,
// when the table has no AUTOINCREMENT.
//
// Replicas are equal when the SQL is deterministic: an increment that calls random() or datetime('now') gives every
// node its own value. That cannot be seen here; it is the writer's duty.
//
// # Table xmq_position
//
//	log_id      TEXT     16 hexadecimal digits
//	seq         INTEGER  the last sequence applied
//	chain       TEXT     16 hexadecimal digits
//	updated_at  TEXT     broker time of the last increment applied, RFC 3339 in UTC; NULL before the first
//	topics      TEXT     the topics the data holds, with commas between; * for all; NULL when not known (event.Topics)
//
// It has exactly one row. A database without the table is at the zero position, whatever else it holds: so a master
// adopts an existing database. The table without its row is a copy that lost its position: Fatal.
//
// # Snapshots
//
// A snapshot is the database file itself, held still: with the write lock taken for a moment, the whole WAL is
// checkpointed into the file, and a read transaction is opened that reads from the file alone. As long as it is open,
// SQLite writes no page of the file; increments go on into the WAL, which grows meanwhile. The pause is that one
// checkpoint and does not depend on the size of the database. Before a DUMP holds increments the same checkpoint is
// tried without waiting (Prepare), and again once a second while a reader of an older state is in the way: so that
// such a reader holds no increments up, and little is left for the pause.
//
//	 0  8  "XMQPAGES"
//	 8  4  version = 1
//	12  4  bytes of a page
//	16  8  number of pages
//	24  4  CRC-32C of bytes 0 to 23
//	28  .  the pages
//	 .  4  CRC-32C of the pages
//
// All integers are little-endian. The format's name is "sqlite-pages/1".
//
// # Files
//
//	PATH              the database, with PATH-wal and PATH-shm
//	PATH.xmq-restore  a snapshot being loaded; nothing, once a process opens the database anew
//	PATH.xmq-switch   a snapshot loaded, verified and decided on: the next Open makes it the database
package sqlite
