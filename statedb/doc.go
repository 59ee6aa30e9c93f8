// Package statedb says what a broker knows besides the log: clients with their positions, running DUMPs, alerts,
// audit entries, the timeline of events. The log leads; the state only says things about it that are true already.
//
// A Batch gathers operations, a Store makes them durable as one unit, and its readers get copies of what the last
// successful Write made durable: retention computes from nothing else (Holders), so that it never frees what a power
// cut would make needed again.
//
// What may lag and what must lead: an acked position may be old after a crash (the node drops repeats); a pin, a
// session, a registration, FAIL and FATAL are durable before anybody is told.
//
// A Store is in statedb/leveldb, and what each must pass in statedb/storetest. The rules of a Batch (how an alert
// counts, who gets which number, what is forgotten first) are written once, in Mirror: a Store keeps one, asks it for
// the Changes of a Batch, makes them durable and commits them to it.
package statedb
