// Package file is the target driver that appends increments to one file, as the original's node did, but so that they
// can be split again: framed, checked, with their headers, and with the position (XN-8). It takes any bytes (XR-5)
// and never fails an increment. Records reads such a file.
//
// # The file, version 2
//
//	0  7  "XMQFILE"
//	7  1  version = 2; 1 where a node of the first revision made it and no topics are stored yet
//
// then batches, each of 0 or more record entries, one topics entry or none, and one position entry that seals them. A
// batch is written and synced as one; without its seal it does not count. Entry:
//
//	0  1  kind: 1 record, 2 position, 3 topics
//	1  4  n, length of the body
//	5  4  CRC-32C of bytes 0 to 4
//	9  n  body
//	.  4  CRC-32C of the body
//
// The body of a record entry is the record as encoded in package event. That of a position entry:
//
//	 0  8  log ID       8  8  sequence      16  8  chain
//	24  8  offset in the file at which its batch begins
//
// That of a topics entry is the topics the data holds, with commas between; * for all (event.Topics). The last one
// counts; without one they are not known.
//
// All integers are little-endian. Only the last batch can be torn by a crash. So damage is a torn end, and cut off on
// opening, when no seal of a later batch stands after it; else it is damage to what was durable, and fatal. The
// offset in a seal makes that search safe whatever bytes the increments hold. What a failed write has left after the
// last seal is cut off before the next one.
package file
