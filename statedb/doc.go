// Package statedb is the store of everything the broker knows besides the log: clients with their positions,
// running DUMPs, alerts, audit entries. It is the second of the two LevelDB stores; the log leads and this
// one only says things about it that are already true.
//
// Every write is one synced batch. Readers get copies of what the last successful write made durable, from
// memory: retention computes from nothing else, so that it never frees what a power cut would make needed
// again. Values are JSON with a version in "v", so that an operator can read them.
//
// What may lag and what must lead: an acked position may be old after a crash (the node drops repeats), a
// pin, a session, a registration, FAIL and FATAL are durable before anybody is told.
package statedb
