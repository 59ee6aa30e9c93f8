// Package server is the roof: it opens the stores, runs the doors, the ingest, the workers and the keepers, and
// stops them in order.
//
// # Its goroutines
//
//	ingest      1            the only writer of the log: group commit
//	worker      Workers      machines of the clients, see package worker
//	watch       1            checkpoint of the log, free disk, stalls
//	retention   1            frees segments that nobody needs
//	scrub       1            reads the whole log slowly, for damage
//	hooks       1            tells alerts to the outside
//	pprof       1 + requests profiles, when they are asked for
//	HTTP        1 + requests the HTTP door and the API
//	NATS door   1            answers of the NATS door
//	desk        bounded      chunks of snapshots
//	road        3            subscriptions: events up, chunks, increments (of nats.go)
//
// # Start
//
// Lock, log, state store, checkpoint, staging, NATS, workers, ingest, then the doors, then "ready".
//
// # Stop
//
// See Broker.shutdown: each line has its because.
package server
