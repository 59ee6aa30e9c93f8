// Package dumpflow is everything about one DUMP besides the states of clients: the swap of requester and
// target, the record with its requesters and pin, the numbering of chunks, both halves of the transfer (Upload,
// Download), the broker's staging area, the manifest, and the backup file. The numbering rule stands once, in
// chunk.go, and is tested by running both halves against each other.
//
// # From target to requester
//
//	target's Snapshot.WriteTo -> Upload -> SNAP_REQ Put, several in flight -> Staging (one file a chunk)
//	                                    -> SNAP_REQ Seal (manifest)        -> verified, published by rename
//	requester's Restore <- Download <- SNAP_REP with a chunk, as soon as it is there <- Staging
//
// A chunk is answered when it is durable. A repeated chunk changes nothing. A requester may read while the upload
// runs; it learns the end of the snapshot from the manifest, and verifies size and SHA-256 of all of it.
package dumpflow
