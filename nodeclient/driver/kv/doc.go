// Package kv is the target driver for a local key-value store: a folder with a goleveldb database that needs no
// server. Increments are commands, in the forms of package commands; the position lies in the same database and moves
// in the same synced batch as the data.
//
// # Increments
//
//	SET key value
//	MSET key value [key value ...]
//	DEL key [key ...]
//	INCR key [n]    DECR key [n]
//
// A key has 1 to 1024 bytes, a value up to 16 MiB, any bytes. INCR and DECR take a missing key for 0; what they find
// and what they make are 64-bit decimal numbers, and anything else fails the increment. The last word on a key within
// a batch is written once. A batch is one write: a failing increment ends it, and nothing of that increment is in it.
//
// # Keys of the database
//
//	"k" + key   a value
//	"position"  log ID 8, sequence 8, chain 8 bytes, little-endian; absent in a place that has never applied anything
//	"topics"    the topics the data holds, with commas between; * for all; absent when not known (event.Topics)
//	"version"   1 byte, = 1
//
// # Trouble
//
// After a failed write or sync the database is closed and opened again, as soon as no snapshot reads it and the disk
// allows it: what the write has left is unknown until then, and read. Damage is refused on opening, and when it is
// met later; it is Fatal. See package disk.
//
// # Snapshots
//
// A snapshot is a cursor: goleveldb keeps what it saw when it was opened. Format "kv-pairs/1" is a stream of package
// snapstream with magic "XMQPAIRS" and version 1. Its preface is empty, or, when only a range is in it, which nobody
// can restore from:
//
//	0  4  s, length of start   4  s  start, exclusive; empty: from the first key
//	.  4  e, length of end     .  e  end, inclusive; empty: to the last key
//	.  8  limit on the number of pairs; 0: none
//
// Its data is pairs in the order of their keys, then the end:
//
//	0  4  k, length of the key   4  k  key
//	.  4  v, length of the value .  v  value
//
//	0  4  0                      4  8  how many pairs came before
//
// All integers are little-endian.
//
// # Folders
//
//	PATH              the database
//	PATH.xmq-restore  a snapshot being loaded; nothing, once a process opens the database anew
//	PATH.xmq-switch   a snapshot loaded, verified and decided on: the next Open removes the old one and
//	                  makes it the database
//
// Beside them stand, for moments, folders whose names begin with tmp- and trash- and go on with one of these.
package kv
