// Package disk keeps the data of both stores: goleveldb, opened so that it cannot lie.
//
// goleveldb is honest about power cuts when every write is synced. It is not honest after an I/O error or after
// damage: it retries failed syncs, drops unreadable journal records and deletes tables that a damaged manifest no
// longer names. So it is opened only here:
//
//   - Latch: the first failed write or sync of any database stops all of them. A failed write has an unknown
//     outcome, is never tried again, and the process must end.
//   - the fail-stop storage under every database feeds the latch, syncs directories and journals where
//     goleveldb does not, and watches for calls that never return.
//   - the pre-scan reads manifest and journals before goleveldb may touch them, and refuses damage with file
//     and offset (Damage), while a torn tail, which a power cut may leave, is let through.
//   - a database that is only read (Sealed) is not written at all: what goleveldb writes when it opens one
//     stays in memory. So reading goes on while the disk is full, and no trouble with it is taken for a failed write.
//   - to have no file descriptor left is no failed write either (ErrDescriptors): nothing was written, and it passes.
//   - DB offers only what is safe: synced batches, reads, ranges.
//
// A Place is where databases lie by name: a directory (Dir), a directory that must not be changed (FrozenDir), or
// memory (package disktest).
package disk
