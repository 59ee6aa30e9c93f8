// Package nodeclient is the node: the agent that sits beside one database in one datacenter, keeps a
// conversation with the broker, applies increments in order, each exactly once, and serves or takes DUMPs.
//
// An Agent runs one conversation. Its session is pure (no clock, goroutine, socket or disk): events and results
// go in, work comes out; the agent's loop does the work. The database is behind the interface Database; drivers
// are the packages under nodeclient/driver.
//
// # The phases of a session
//
//	start --> opening --Welcome--> following --increment failed--> held --frame after our position--> following
//	             ^  |                  |                             |
//	             |  |                  +---- gap, silence, cut ------+----> opening (a new turn)
//	             |  +--NeedsDump, Unknown (and --from is given)--+
//	             |                                               v
//	             +------ snapshot loaded and switched ------- joining
//
// From following the loss of the copy leads to lost: FATAL is said, in every new session again, until the broker
// answers NeedsDump; then joining. Any refusal that only a person can mend, and a second
// process with the same ID, end the agent with a sentence.
//
// While increments are at the database no session is opened: NONE then says that the node is busy, so that an
// operator's order about one of them reaches it. Such an order comes as a Reopen that names the increment: what is at
// the database up to there is given up, and the session that follows brings what was ordered.
//
// # Goroutines of an Agent
//
//	loop      Run itself: the session, one select
//	dbLoop    one call at a time to the Database: Apply, Seek, Snapshot
//	transfer  upload of a snapshot, or download and restore; each waits for the end of the one before
package nodeclient
