// Package redis is the target driver for one logical database of a Redis server, 7.0 and later. Increments are
// commands, in the forms of package commands; the position lives in the hash xmq_position of the same database and
// moves in the same script as the data.
//
// # Servers
//
// The server is a standalone master that does not evict keys. Nothing acknowledged is lost by its crash when it runs
// with appendonly yes and appendfsync always. With less, a crash takes the last of the data and the position with it:
// the copy is older but whole, and goes on from there, if the broker still keeps the log; see Durability. The same
// holds for a failover to a replica that has not heard everything.
//
// # Increments
//
// EXEC of Redis does not roll back, so a batch is one call of a Lua script (see applyScript), or a few when it is
// large: it compares the position, runs the commands in order, and moves the position. The server does nothing else
// meanwhile, and writes all of it to its append-only file and replicas as one MULTI ... EXEC. A command that fails
// changes nothing itself; what the earlier commands of its increment did is taken back from copies of their keys
// (DUMP), so that an increment of several commands costs a copy of the keys of all but its last. What precedes the
// failing increment stays.
//
// Refused, as a FAIL before anything runs, are commands that only read, wait, work on the connection, the server or
// another logical database, run programs, or leave a choice to the server (SPOP, XCLAIM); keys that begin with xmq_;
// commands of more than 7000 words; FLUSHDB anywhere but at the end of its increment. What the server says of its
// commands decides, so that those of later versions and modules are known.
//
// What depends on the clock or the settings of a server is made absolute from the increment's broker time: times to
// live, stream IDs of the server's choice, and approximate trimming, which becomes exact; see absolute.
//
// # Times to live
//
// A key ends by the time of the log, so that every node has the same keys at the same position, however late it comes
// there. The times stand in the sorted set xmq_expiry, in ms since 1970. Before an increment the script that applies
// it deletes the keys whose time is its broker time or before; Expire does the same for a time that the broker
// promises no later increment to be before, which is how keys end while nothing is published. Deleting then or right
// before the next increment comes to the same. A script ends dueKeys keys at most; more are ended in further calls
// before the increment.
//
// Redis itself is given a time for the same keys, and no others: spareTime after the log's, or after the server's
// clock at the moment where that is later. So what drops a time (SET, PERSIST, SUNIONSTORE), keeps it (INCR,
// KEEPTTL), moves or copies it (RENAME, COPY) or asks whether there is one (NX, XX) is seen from Redis' own, whatever
// the command; GT and LT are compared with the log's by the script. Before half of the spare time is over, keys that
// the log has not ended although the server's clock has are given all of it again: while a node comes by, Redis ends
// none. Until when that is so stands in the field expiry of the position. A node that comes later looks whether keys
// are gone that the next increment's time has not ended: then this copy has lost data, which is Fatal; an operator's
// seek takes it as it is. A command of a module that gives a key a time by itself escapes all this.
//
// Single fields of a hash (HEXPIRE, HSETEX, HGETEX) cannot have a time: each server would end them by its own clock.
//
// A database of an earlier revision, in which Redis' own times are the only ones, is taken over at the first use: its
// field expiry is missing. A restart of that begins it again.
//
// # Hash xmq_position
//
//	log_id      16 hexadecimal digits
//	seq         the last sequence applied, decimal
//	chain       16 hexadecimal digits
//	expiry      until when Redis itself ends no key, in ms since 1970;
//	            absent when the keys' times are not in xmq_expiry yet
//	updated_at  broker time of the last increment applied, RFC 3339 in UTC; absent before the first
//	topics      the topics the data holds, with commas between; * for all; absent when not known (event.Topics)
//
// A database without the key is at the zero position, whatever else it holds. A key that is not such a hash is a copy
// that lost its place: Fatal.
//
// # Key xmq_lock
//
// It says which node has the database, lives 15 s longer than that says so, and is no data; see lock.go. The script
// looks at it before anything else.
//
// # Lost answers
//
// Nothing is sent twice. After a lost answer the position is read back over a new connection; the server does one
// thing at a time, so that the read waits for a script that runs. A call that is still under way then may arrive
// later: the next Apply finds the position where that call left it, and goes on from there.
//
// # Snapshots
//
// Opening one reads the position and nothing else. WriteTo walks over the keys with SCAN. Before Apply changes a key
// that the walk has not written, it reads the old value for the snapshot: the driver is the only writer, so that what
// is written is one moment, while increments go on. A writer beside the driver would show in it, as it would in
// everything else. Keys that end during the walk are among the old values. Old values wait in memory, 64 MiB of them,
// then Apply waits for the writer; FLUSHDB waits for the end of the snapshot.
//
// Format "redis-keys/1" is a stream of package snapstream with magic "XMQREDIS", version 1 and no preface. Its data
// is entries:
//
//	 0  1  kind: 1 key, 2 end
//	of a key
//	 1  4  k, length of the key
//	 5  8  time of the log that ends it, in milliseconds since 1970; 0: none.
//	       Earlier revisions wrote Redis' own, which was the same
//	13  4  n, length of the value
//	17  k  key
//	 .  n  value as DUMP gives it; a server of an earlier version may not read it
//	of the end, after which nothing comes
//	 1  8  how many keys came before
//
// All integers are little-endian. A key may come twice, with the same value.
//
// # Logical databases
//
//	DB          that of the URL
//	restore_db  where a restore loads; the server's last one when the URL does not say. Empty otherwise.
//
// The key xmq_restore marks the second as ours while a restore loads. The switch is one call of a script that swaps
// the two (SWAPDB) and empties the old one; there is no state between old and new, in memory, in the append-only file
// or after a crash.
//
// # Rights
//
// An ACL user needs all keys, the commands of the increments, and INFO, COMMAND, TIME, EVAL, EVALSHA, HGETALL, SCAN,
// DUMP, RESTORE, PEXPIRE, PEXPIREAT, PEXPIRETIME, GET, SET, DEL, UNLINK, ZADD, ZRANGE, ZRANGEBYSCORE, ZREM, ZSCORE,
// SELECT, SWAPDB, FLUSHDB; CONFIG GET, CLIENT SETNAME, CLIENT ID and CLIENT LIST are asked for but can be missing.
package redis
