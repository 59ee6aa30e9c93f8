// Package failpoint names the places between two steps at which a test lets a process die. In a normal build a Hit is
// nothing at all; with the build tag failpoint the environment says what happens:
//
//	XMQ_FAILPOINT=name:kill[:count]   SIGKILL to this process at the count-th Hit of name, by default the first
//
// Names say between which two steps a place lies.
package failpoint

// The places of a node, in the order in which it passes them.
const (
	FetchedBeforeApply = "fetchedBeforeApply" // increments are here, the database knows nothing of them
	AppliedBeforeSeq   = "appliedBeforeSeq"   // all statements have run, the position has not moved
	SeqBeforeCommit    = "seqBeforeCommit"    // the position has moved, nothing is committed
	CommittedBeforeAck = "committedBeforeAck" // it is durable, the broker has not heard
	Acked              = "acked"              // the broker has been told
	LoadedBeforeSwitch = "loadedBeforeSwitch" // a snapshot is loaded and verified beside the old data
)
