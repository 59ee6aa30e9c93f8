// Package worker feeds the clients. A Pool of Workers; each Worker is one goroutine with a cooperative
// scheduler over the Machines of its clients; a Machine is one client's state, pure: no clock, goroutine,
// socket or disk. What happens to a client goes in by Step and Tick, what is to be done comes out by Ready,
// with "must be durable before" written into the type Work.
//
// # The states of a client, and what moves it between them
//
//	               DUMP_REQ from an unknown node                 INCR_REQ/NONE of a master, or of
//	                            |                                a node that proves its position
//	                            v                                             |
//	 dump failed, left     +---------+   snapshot open at S   +---------+     |
//	(gone) <-------------- | pending | ---------------------> | loading |     |
//	                       +---------+                        +---------+     |
//	                                           INCR_REQ/NONE at S |           |
//	                                                              v           v
//	 INCR_REQ/FAIL   +--------+  retry, skip, replace,    +--------------------+
//	+--------------> | failed | ---------------------->   |     following      | <-----+
//	|                +--------+  or a new process         +--------------------+       |
//	|                                                      | DUMP asked of it           |
//	|                                                      v                            |
//	|                                              +----------+ all in flight acked     | open at S, or the
//	+--------------------------------------------- | draining | -------> +---------+    | dump failed
//	                                               +----------+          | dumping | ---+
//	                                                                     +---------+
//	from every state:  INCR_REQ/FATAL -> fatal      trimmed, redump -> needs_dump
//	fatal, needs_dump: INCR_REQ/NONE with the snapshot of a new DUMP -> following
//
// While a client waits for a second DUMP it stays what it was, with its old positions in force, and carries
// a Join besides. A newcomer whose node has ended, because it could not load the snapshot, stays pending without a
// Join: its record holds the reason, and is otherwise as good as none (statedb.Client.TurnedBack). It goes with the
// record of that DUMP.
//
// # What a node does not know
//
// A node of an earlier build does not know every form that an increment can have (package form). The broker
// compares what its hello names with what an increment needs when that is to be sent, and holds it, with all
// after it: the client stays following, LastError and the alert "upgrade" name the increment, and the next
// session of a node that knows more goes on. Nothing of it is stored but these two.
//
// # Order of a turn
//
// First what a restart or an answer asks for, then DUMPs, then increments (XI-10). A turn waits for nobody
// but the disk, and reads at most TurnBytes.
package worker
