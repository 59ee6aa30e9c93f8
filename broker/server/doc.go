// Package server is the broker's process: it opens the stores, runs the doors, the ingest, the workers and what
// watches them, and stops all of it in order.
//
// # The layers of XMQ
//
// A package imports only packages of layers below its own, and of those only the ones in its row of TestImports, which
// compares this picture with the rows and with the code. What only tests import is not drawn.
//
//	9  cmd/xmq  integration
//	8  integration/bench
//	7  configs  nodeclient/driver
//	6  broker/server
//	5  broker/monitor
//	4  broker/api  nodeclient/driver/{exec,file,kv,mysql,postgres,redis,sqlite,webhook}
//	3  worker  statedb/leveldb  nodeclient/driver/internal/{apply,external,freespace,hold}
//	2  nodeclient  nodeclient/producer  statedb  increments/segments  broker/door/{http,nats}
//	1  increments  dumpflow  broker/{bus,door}  nodeclient/driver/sqltext  nodeclient/driver/internal/snapstream
//	0  broker/{event,form,disk,secret,version,units,failpoint}  cmd/xmq/shop
//	   nodeclient/driver/internal/{commands,files,spool,subprocess}  integration/report
//
// # Its goroutines
//
//	ingest      1            the only writer of the log: group commit
//	worker      Workers      machines of the clients, see package worker
//	watch       1            monitor.Watcher: checkpoint of the log, free disk, stalls
//	retention   1            monitor.Trimmer: frees segments that nobody needs
//	scrub       1            monitor.Scrubber: reads the whole log slowly, for damage
//	hooks       1            monitor.Notifier: tells alerts to the outside
//	pprof       1 + requests profiles, when they are asked for
//	HTTP        1 + requests the HTTP door and the API
//	NATS door   1            answers of the NATS door
//	chunks      bounded      chunks of snapshots
//	NATS        3            subscriptions: events up, chunks, increments (of nats.go)
//
// # Start
//
// Lock, log, state store, checkpoint, staging, NATS, workers, ingest, then the doors, then "ready".
//
// # Stop
//
// See Broker.shutdown: each line has its because.
package server
