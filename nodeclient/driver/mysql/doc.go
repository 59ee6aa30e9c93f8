// Package mysql is the target driver for MariaDB, 10.6 and later, and MySQL, 8.4 and later; both change the schema
// atomically. flavour.go holds in what they differ. Galera clusters, replication groups and what else speaks like
// MySQL are refused: the promises below were never tested there, or cannot hold. Increments are SQL scripts or one
// statement with arguments; the position lives in the table xmq_position of the same database and moves in the same
// transaction as the data.
//
// # URL
//
//	mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?tls=true|false|skip-verify][&ca=FILE][&socket=PATH]
//
// mariadb:// means the same, and the server says itself which it is. The database must exist. ca names a file of PEM
// certificates and implies tls=true. A socket stands for host and port. The connection must be a direct one: a pooler
// that shares sessions breaks locks.
//
// # Settings
//
// Each session runs with the pins of its flavour: time zone +00:00, sql_mode of a default server (what does not fit
// is an error, "" quotes strings, backslashes escape), utf8mb4 with utf8mb4_general_ci (MySQL: utf8mb4_0900_ai_ci),
// repeatable read, checks of keys and constraints on, InnoDB, no statement timeout, and 20 s of waiting for locks,
// after which the increment is tried again. A session idle for 60 s is ended by the server, and with it the locks of
// one whose node is cut off. What is the server's own must be alike on all nodes: lower_case_table_names, the default
// character set of the database, innodb_autoinc_lock_mode, time zone tables, sql_require_primary_key, before MariaDB
// 10.6.9 explicit_defaults_for_timestamp; MySQL's innodb_strict_mode, sql_generate_invisible_primary_key and
// explicit_defaults_for_timestamp must be as they are by default. With innodb_flush_log_at_trx_commit other than 1 a
// power cut may take the last transactions along, data and position together.
//
// # Increments
//
// A body that begins with { is {"sql": "one statement", "args": [...]}, or {"tx": [...]} with several of them
// (package form). Arguments stand for ?, ?, ... and are written into the statement as literals: a number is what the
// server makes of it, as it was sent, bytes are a binary string, and an object or array is a string of JSON. Any
// other body is a script, without placeholders. work.check says what is refused before anything runs; among it is
// every table of another engine than InnoDB. A script may begin with SET of foreign_key_checks, unique_checks,
// sql_mode, time_zone and collation_connection, as dumps do: they hold for it alone, and its session ends with it.
//
// A batch is one transaction: its statements go out in packets of many, so that a round trip is paid per batch. In
// MariaDB an increment of one INSERT, UPDATE, DELETE or REPLACE carries its settings (SET STATEMENT). When one fails,
// the transaction is rolled back, those before it are applied again, and it runs once more alone before it is
// believed. What the server says may pass, and says to the same increment alone five times while the position can be
// written, is that increment's FAIL. It is an XA transaction (of one phase), because in one of those the server
// refuses COMMIT, ROLLBACK and changes of the schema also inside procedures. An increment with CALL or BEGIN NOT
// ATOMIC is a transaction of its own, and its session ends with it, because procedures may leave settings, temporary
// tables and variables behind. MySQL lets a procedure use temporary tables there when the server runs with
// xa_detach_on_prepare=OFF.
//
// Each transaction begins with GET_LOCK. It makes a reader of the position wait for the end of a session whose
// connection was cut, so that a commit whose answer was lost is never mistaken for none.
//
// When an increment begins, the clock of the session stands at its broker time (NOW(), CURRENT_TIMESTAMP,
// UNIX_TIMESTAMP()), RAND() begins with seeds made of sequence and time, LAST_INSERT_ID() is 0 and each @variable
// that its text names is NULL: all the same on each node, however batches fall. Where the database has functions,
// procedures or triggers, each increment is pinned anew, the @variables that their bodies name are NULL too, and the
// session ends after an increment when a body makes temporary tables. An increment gets a new session when it, or
// anything of the database, asks for the last number of a sequence (LASTVAL), and when it puts a statement together
// (EXECUTE), or calls a procedure where one does. FOUND_ROWS() is 1 when it begins. What cannot be the same:
// SYSDATE(), UUID(), CONNECTION_ID(), USER(), @@ settings of a server. Increments that name other databases leave
// what a snapshot carries.
//
// # Generated numbers
//
// Generated numbers stand with the position. The server does not roll back AUTO_INCREMENT and sequences, and forgets
// at its end what was reserved and not used. So where they belong is stored in the transaction that moves the
// position, and they are put back whenever they may stand elsewhere: after a rollback or a lost connection, when the
// node or the server starts, in a newcomer. Putting back is ALTER TABLE ... AUTO_INCREMENT, or ALTER SEQUENCE ...
// RESTART, and waits for readers of that table: 2 s at a time, since readers that come meanwhile wait behind it.
//
// A counter of a table belongs at what is stored, or one more than the largest value of its column where that is
// more. An INSERT of one row, or of rows whose key is left to the server, and an UPDATE of other columns leave it
// there, and nothing needs to be read. After DELETE it is where it was, which has to be stored since the rows no
// longer say it: nothing is read for that either while the node knows where it is, as it has counted the rows that
// were inserted since it read it last. After all else (REPLACE, IGNORE, ON DUPLICATE KEY, INSERT ... SELECT, CALL)
// the driver reads, within the transaction, the counters that the words of the statement name or that triggers,
// routines, views, defaults and foreign keys lead to; a body with PREPARE or EXECUTE leads to all. After a change of
// the schema all are read. A value that ON UPDATE CASCADE carries into an AUTO_INCREMENT column does not move its
// counter in MariaDB: such an UPDATE ends its transaction, and the counters are compared before the next increment,
// on every node. In the body of a trigger or routine such an UPDATE is not seen: write it as an increment.
//
// What cannot be put back: a sequence of MariaDB with a CACHE above 1, whose server drops numbers whenever it closes
// the table (the node names it when it starts); what others add to the tables, who must not. innodb_autoinc_lock_mode
// may be 1 or 2, which reserve alike, or 0 on all nodes. A counter whose largest row was deleted after numbers were
// reserved in vain goes back when the server drops the table from its memory, which it does beyond
// table_definition_cache: keep that above the number of tables.
//
// # Changes of the schema
//
// The server commits before and after CREATE, ALTER, DROP, RENAME and TRUNCATE, so each is an increment of its own.
// An intent is committed into the position row before it: the position after it, a digest of the statement and a
// fingerprint of the schema. Whoever finds the intent of its own statement, after a crash, a restart of the node or
// an order that came meanwhile, looks: where the fingerprint is another one, it was done, and is not done again,
// whatever was ordered; else it was not, or changes nothing. The server does it whole or not at all; of CREATE OR
// REPLACE it may have taken away what was there and made nothing, so that is looked at, too. Whether the table or
// partition that a TRUNCATE or CREATE OR REPLACE TABLE empties is empty belongs to the fingerprint. Where schema and
// emptiness may be the same before and after, and the data not (columns or tables that take each other's names, a
// column dropped and added, ORDER BY, EXCHANGE PARTITION), or the statement names another database, a FAIL asks:
// retry runs it, skip takes it as done. It runs after an order only that came after the question, and after each
// once: a node that is restarted before an operator has answered, or in the middle of what an answer began, asks
// again. CREATE TABLE ... SELECT and DROP of several at once are not one step and refused. A change of the schema
// waits while a snapshot is open.
//
// # Table xmq_position
//
//	one         tinyint          1
//	log_id      char(16)         16 hexadecimal digits
//	seq         bigint unsigned  the last sequence applied
//	chain       char(16)         16 hexadecimal digits
//	updated_at  datetime(6)      broker time of the last increment applied, UTC; NULL before the first
//	ddl_seq     bigint unsigned  an intent: position after the change of the schema that was to run; NULL for none
//	ddl_chain   char(16)
//	ddl_before  char(16)         fingerprint of the schema before it; "asked" since a person was asked
//	ddl_answer  bigint unsigned  number of the operator's last order when it ran, or was asked about; 0 for none
//	topics      varchar(4095)    the topics the data holds, with commas between; * for all;
//	                             NULL when not known (event.Topics)
//	counters    longtext         JSON: where the counter of each table, and each sequence, belongs (see above);
//	                             NULL when not known
//	counters_seq bigint unsigned the seq that counters belongs to; when it is another one, counters says nothing
//	ddl_statement char(16)       digest of the statement of the intent; NULL when an earlier revision wrote it
//
// It has exactly one row, of zeros before the first position. A database without the table is at the zero position,
// whatever else it holds. The table without its row is a copy that lost its position: Fatal. xmq_position_new is the
// table while it is made. A table of an earlier revision gets the columns it lacks with the first increment, and
// counters as they stand then.
//
// # Snapshots
//
// A snapshot is a transaction with a consistent read. Where AUTO_INCREMENT and sequences stand, which are not subject
// to it, is read when it is opened, and the copy puts them where its position says; a sequence with a cache goes on
// after its cache. Increments flow while it is written. Values are read in binary form, characters as bytes of their
// column's own set. Left out are events, privileges and generated columns, which the copy generates; each DEFINER
// becomes the user who restores. In MySQL's own JSON a copy keeps the text: a decimal or a date in it is a double or
// a string there. A key that the server has made for a foreign key of the same name is made by the server of the copy,
// too, and not written: it ends with the next key that begins with its columns.
//
// Format "mysql-dump/1" is a stream of package snapstream with magic "XMQMYDMP" and version 1; "mysql8-dump/1", with
// magic "XMQM8DMP", is the same in MySQL's words, and neither server takes the other's. Its preface is "CHARSET
// COLLATION" of the database. Its data is records: a byte for the kind, 4 bytes of length, little-endian, and so many
// bytes.
//
// A record is a definition or data, and carried out only as such: see parseRecord. The head of r and the values of s
// are written anew by the receiver, and a definition bears no qualifier before its name.
//
//	s  CREATE SEQUENCE ...; DO setval(...)
//	t  name of a table, a NUL byte, CREATE TABLE ...; then its rows
//	r  INSERT ... VALUES ..., of about 256 KiB or one row
//	d  ends a table: number of rows, sum of the FNV-1a digests of their literals; 8 bytes each, little-endian
//	x  a script as JSON: kind, name, sql_mode, collation and text of a default, routine, view or trigger
//
// # Databases
//
//	DB              the database of the URL
//	DB_xmq_restore  a snapshot being loaded; holds xmq_switch once the switch is decided
//	DB_xmq_old      the tables that DB had before the switch, until it is finished
//	DB_xmq_keys     copies without rows, while a snapshot is written: which keys has the server made for foreign keys?
//
// A database cannot be renamed. A restore keeps the snapshot in $TMPDIR until all of it has come and was judged,
// loads it into DB_xmq_restore, reads every table again, and makes routines, views and triggers on trial. The switch
// is decided by one RENAME TABLE, that of xmq_scripts to xmq_switch; everything after it can be repeated and is
// finished by the next Open or the next use: those of DB are dropped, one RENAME TABLE exchanges all tables, those of
// the snapshot are made in DB. Other readers of DB see views and routines missing for that long. Privileges of DB
// stay, and its character set becomes the snapshot's. An undecided restore is dropped by the next Open.
//
// # Lock
//
// A node holds DB by GET_LOCK, in a session that does nothing else, which the server ends when it has been silent for
// 30 s; see lock.go. Each transaction looks whether that session still has it. Who has it is shown by its ID when the
// server keeps connection attributes (performance_schema), else by the number and address of its session.
//
// # Credentials and privileges
//
// The password comes from the URL or MYSQL_PWD and stands in no error. The user needs
//
//	GRANT ALL ON `DB`.* TO ...; GRANT ALL ON `DB\_xmq\_%`.* TO ...
//
// and nothing global. A server with a binary log wants log_bin_trust_function_creators=1 for functions and triggers,
// and a binlog_format of MIXED or ROW; MySQL has one by default. What an administrator has made in DB, MySQL lets
// nobody replace who has not SYSTEM_USER: a restore then names it and changes nothing. Routines must be made by this
// user, or their text cannot be read.
package mysql
