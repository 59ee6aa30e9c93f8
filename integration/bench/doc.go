// Package bench measures XMQ against its peers: each scenario runs both sides in turn, several rounds in one process,
// and says the median of each and of the ratio pair by pair, since absolute figures drift with the machine. Payloads
// are random bytes. Nothing here judges; `xmq bench` prints it.
//
// A Scenario has one figure. A side makes that figure once: it starts what it needs in a folder of its own, warms up,
// measures, and removes everything. Each says what was on the disk when an answer came.
package bench
