// Package increments is the log: every accepted increment, in one order, kept until everybody has it.
//
// # On disk
//
// The log's place holds segments, each a LevelDB database named by its first and last possible sequence,
// "00000000000000000001-00000000000002000000". The name rules, so a change of MaxRecords concerns only new
// segments. A segment is dropped as a whole; nothing in it is ever deleted or rewritten.
//
// In a segment (format 1; numbers little-endian; every value except a record begins with the format byte):
//
//	<20 digits>              the record with that sequence, as package event encodes it
//	i<producer> NUL #<20 digits>   1 format, 8 sequence of the record with that producer and counter
//	i<producer> NUL =<key>         the same for keys that are not counters
//	m/base                   1 format, 8 sequence, 8 chain: the position before the segment's first record
//	m/log                    1 format, 8 log ID
//	m/low                    1 format, 8 lowest sequence that retention has left
//	m/p/<producer>           1 format, 8 highest counter of that producer
//
// All m/... are written when a segment is made, so they outlive the segments before it. Record and
// idempotency key are one batch with one sync: that is the moment of acknowledgement. There is no stored
// end: the end of the log is its last record.
//
// # In memory
//
// The head moves after the sync, never before, and nobody reads beyond it. The last records stay in memory
// as encoded (the ring) and are shared by all readers. A log of one process has one writer: Append and Trim
// exclude each other.
package increments
