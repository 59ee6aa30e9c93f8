// Package segments keeps the log of a broker in LevelDB databases: an increments.Log.
//
// # Where to look
//
// append.go is the way of a draft into the log: Prepare gives it its sequence, Commit makes it durable. dedup.go says
// which drafts were there before, dedup_counter.go where each producer's numbers stand, dedup_index.go keeps keys
// beyond the segments of their records. read.go, ring.go and segment_set.go are the way of a record to a reader,
// trim.go frees segments, check.go verifies all of it.
//
// # On disk
//
// The log's place (disk.Place) holds segments, each a LevelDB database named by its first and last possible sequence,
// "00000000000000000001-00000000000002000000". The name rules, so a change of MaxRecords concerns no sealed segment.
// A newest one that holds more than a smaller MaxRecords is given a name that ends with its last record, which makes
// it a full one, before the next segment is made. A segment is dropped as a whole; nothing in it is ever deleted or
// rewritten.
//
// In a segment (format 1; numbers little-endian; every value except a record begins with the format byte):
//
//	<20 digits>              the record with that sequence, as package event encodes it
//	i<producer> NUL #<20 digits>   1 format 2, 8 sequence of the record with that number of that producer,
//	                               8 digest of topic and body
//	i<producer> NUL =<key>         the same for keys that are not numbers; format 1, of the first revision, has no digest
//	m/base                   1 format, 8 sequence, 8 chain: the position before the segment's first record
//	m/log                    1 format, 8 log ID
//	m/low                    1 format, 8 lowest sequence that retention has left
//	m/index                  1 format, 8 one: there is an index of keys, or there was
//	m/p/<producer>           1 format, 8 highest number of that producer;
//	                         format 2 adds 1 flags, 8 sequence of its last reset
//
// All m/... are written when a segment is made, so they outlive the segments before it. Record and idempotency key
// are one batch with one sync: that is the moment of acknowledgement. There is no stored end: the end of the log is
// its last record.
//
// # The index of idempotency keys
//
// Beside the segments lie databases named "keys-<20 digits>", the generations of the index: each holds the i... of
// the sealed segments from that sequence on, as they stand there, up to its m/through (1 format, 8 sequence), and
// m/log. The next generation begins after it. m/begin of the newest one says where the oldest begins. A generation
// whose keys are all older than the window (Options.Window) is dropped as a whole. The index is derived: Index and
// Trim make it again from the segments that are there. A key is looked up in what is prepared, in the newest segment,
// in sealed ones that are not indexed yet, and in the index; so a record and its key are one batch at any time, and
// the key outlives the record's segment.
//
// # In memory
//
// The head moves after the sync, never before, and nobody reads beyond it. The last records stay in memory as encoded
// (the ring) and are shared by all readers. A log of one process has one writer: Append and Trim exclude each other.
package segments
