// Package integration holds the tests of the whole: the program xmq, built once and run as processes of a broker, nodes
// and writers, and the rules of this repository. It has no code of its own besides tests.
//
// The scenarios with kills run once for every kind of database. A rig (rigs_test.go) says how a private instance is
// made, what an increment looks like there, and which numbers its tables hold in the end. A scenario kills the broker
// or the node where a failpoint stands, cuts a DUMP or restores an old backup, and compares the numbers with what was
// written. Servers are started by package servertest on free ports in temporary folders, and stopped.
//
//	journey, join, away     an increment, a newcomer, and who comes back later
//	drivers, mixed, rows    every kind of database, several beside each other
//	night, oncall, orders   what an operator meets, and the orders he gives
//	attack, lock, secrets   input that means harm, two nodes on one database, passwords in what people read
//	cluster, proxy, many    brokers with an external NATS server, links that are slow or cut, hundreds of clients
//	blocks, pages           the commands of README, the links and lines of all pages
//	imports, words, sleep   the layers, the language and how tests wait
//
// CONFORMANCE.md lists what is owed to the systems before, by id: XE-8 is guarded by the tests whose names begin with
// TestXE08, wherever they stand.
package integration
