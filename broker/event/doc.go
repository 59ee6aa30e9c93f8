// Package event is the language of XMQ: events between nodes and broker, increments as bytes, positions, identities
// and subjects. It holds only what crosses the wire or names what crosses it, imports nothing of ours, and does no
// I/O. All integers are little-endian; every format has a version.
//
// # The contract under everything
//
// Every event may be lost or repeated. Every sender repeats until answered. Every receiver may drop what it cannot
// take. Acknowledgements are cumulative. A gap, a timeout, a restart or a trimmed log has one cure: INCR_REQ/NONE
// with the node's position.
//
// # Event, version 3
//
//	 0  2  "XM"
//	 2  1  version = 3; 2 without a time of the log, 1 without a token as well
//	 3  1  kind            4  1  state          5  1  code
//	 6  2  reserved = 0
//	 8  8  session: instance
//	16  4  session: turn
//	20  8  position: log ID
//	28  8  position: sequence
//	36  8  position: chain
//	44  8  dump ID
//	52  8  request ID
//	60  4  credit in increments
//	64  4  credit in bytes
//	68  4  lease in milliseconds
//	72  16 session: token, not zero; not in version 1
//	88  8  time of the log, ns since 1970 UTC, above 0; in version 3 alone, to nodes that asked for it (Hello)
//	 .  1+n  group          n = first byte, 0 to 31
//	 .  1+n  client ID
//	 .  1+n  peer ID
//	 .  2+n  text           n = 0 to 4096
//	 .  4+n  body           n = 0 to 16 MiB
//	 .  4  CRC-32C of all bytes before it
//
// # Who says what
//
//	INCR_REQ/NONE            node: open a session; Pos is the stored position, body a Hello. Busy: not now, increments
//	                         after Pos are at the database; Text says which, when they have been there for long
//	                         (a Hello is JSON, of which both sides pass over what they do not know: so it names features)
//	INCR_REQ/SUCC            node: applied up to Pos, credit beyond it; also the heartbeat (Retrying, Bye)
//	INCR_REQ/FAIL            node: the increment after Pos failed, Text says why
//	INCR_REQ/FATAL           node: my copy is lost, Text says why
//	INCR_REP Welcome         broker: session offered, Pos is where feeding starts; LeaseMS as in the heartbeat
//	INCR_REP with a frame    broker: increments after Pos; an empty frame is the heartbeat, LeaseMS how long the
//	                         node may be silent
//	                         Clock: all increments after the frame have this time or a later one
//	INCR_REP Reopen          broker: this session is over, open another one. With the log and sequence of Pos: an
//	                         operator has decided about that increment, so what is at the database up to there is
//	                         given up
//	INCR_REP Apply           broker: body is one item of kind 3, an increment that this client has passed over, and
//	                         Request the number of the order, which is that of the item: apply it now, and leave the
//	                         position where it is. Said again with heartbeats until answered, to one process only,
//	                         which names it in its Hello (applies)
//	INCR_REQ/SUCC Applied    node: the order Request is done; NotApplied: refused, nothing of it is stored;
//	                         MayApplied: nobody knows
//	INCR_REP other codes     broker: why not, and what to do
//	DUMP_REQ                 requester: {ID requester, Peer target, Request}; broker swaps ID and Peer. Text says why
//	                         the DUMP before it was of no use, and Dump which that was, when it is not the broker
//	                         that has said so
//	DUMP_REQ Abandoned       requester: I do not want Dump any more; Text says why, when its node ends. With SUCC:
//	                         a backup of Dump is in a durable file
//	DUMP_REQ Sealed          requester: I have loaded Dump, but for what Text says
//	DUMP_REQ Cancel          broker to target: give the snapshot up
//	DUMP_REP Opened/Sealed/Lease or FAIL   target to broker, then broker to requester, with Pos
//	SNAP_REQ / SNAP_REP      one chunk up or down; the body is described in package dumpflow
//
// # Record, version 1: one increment, on disk and on the wire
//
//	 0  1  version = 1
//	 1  8  sequence, from 1
//	 9  8  time, ns since 1970 UTC
//	17  4  CRC-32C of everything else in the record
//	21  8  chain up to and including this record
//	29  1  number of headers, then for each, in rising order of id:
//	       1 id (1 topic, 2 content type, 3 origin, 4 producer, 5 idempotency key, 6 mark of a text key,
//	       7 time limit), 2 length, value
//	 .  .  payload, to the end
//
// The decimal keys of named producers are numbers with which they count, unless header 6 is there: one byte, 1, which
// marks the key as text. The first revision had no such text and passes header 6 over.
//
// Header 7 is four bytes: how many milliseconds the increment may be at a database, 0 for any time. It changes
// nothing of what the increment does: a node of an earlier revision passes it over, and gives it the time of all
// others.
//
// chain(n) = first 8 bytes of SHA-256(chain(n-1), bytes of the record from offset 29); chain(0) = first 8 bytes of
// SHA-256(log ID).
//
// # Frame: the body of INCR_REP
//
//	1  record   4 length, record                          an increment
//	2  skip     8 sequence, 8 chain                       up to there nothing is for this node
//	3  decision 4 length, 8 number of the decision, record an operator sends it again, perhaps with another body;
//	                                                      chain is the log's
//	4  packed   4 length, S2 block of items 1 to 3        stands alone; only to nodes that asked for it (Hello)
//
// # Batch, version 1: many drafts of one producer in one request
//
//	 0  1  version = 1
//	 1  8  stream: the life of the producer that numbers its batches, never 0
//	 9  8  number of the batch, from 1
//	17  8  base: all batches below it are answered; 1 to number
//	25  8  first number: draft i has the number "first number + i", which may jump as far as the clock; 0 for none
//	33  4  count of drafts, 1 to 4096, then for each:
//	       1 number of headers, then for each, in rising order of id: 1 id (1, 2, 3, 5, 6, 7 as in a record),
//	       2 length, value
//	       4 length of the body, body
//	 .  4  CRC-32C of all bytes before it
//
// Here, too, a decimal key without its mark is a number; it may jump as far as the clock, as those of the first
// revision did.
//
// # BatchReply, version 1: what became of a batch
//
//	0  1  version = 1
//	1  8  log ID
//	9  .  runs until all drafts are told of, or one run of kind 4
//	.  4  CRC-32C of all bytes before it
//
//	1  stored     4 count, 8 first sequence               consecutive sequences
//	2  duplicate  4 count, 8 first sequence               the same, but there before
//	3  refused    4 count, 1+n code, 1+n text             drafts that were refused for one reason
//	4  whole      1+n code, 1+n text                      nothing of the batch was taken, or its outcome is unknown
package event
