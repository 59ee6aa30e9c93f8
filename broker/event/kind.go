package event

import "fmt"

// Kind says what an event is about. The first four keep the original's names.
type Kind uint8

// The kinds of events. Never reuse a number.
const (
	IncrReq Kind = 1 // INCR_REQ, node -> broker: where I am, and what I can take
	IncrRep Kind = 2 // INCR_REP, broker -> node: increments, or why not
	DumpReq Kind = 3 // DUMP_REQ, requester -> broker: get me a snapshot; broker -> target: open one
	DumpRep Kind = 4 // DUMP_REP, target -> broker and broker -> requester: how the snapshot goes
	SnapReq Kind = 5 // SNAP_REQ, node -> broker: put or get one chunk of a snapshot
	SnapRep Kind = 6 // SNAP_REP, broker -> node: the answer to it
)

func (k Kind) String() string {
	names := [...]string{IncrReq: "INCR_REQ", IncrRep: "INCR_REP", DumpReq: "DUMP_REQ", DumpRep: "DUMP_REP",
		SnapReq: "SNAP_REQ", SnapRep: "SNAP_REP"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("KIND_%d", uint8(k))
}

// State is the outcome an event reports, in the original's words.
type State uint8

// The states. From the broker a state only informs; Code says what to do (XS-6).
const (
	None  State = 0 // just started, or nothing to say yet: the other side decides
	Succ  State = 1 // done
	Fail  State = 2 // stop; keep my position; an operator decides
	Fatal State = 3 // my copy is lost: I must DUMP again
)

func (s State) String() string {
	names := [...]string{"NONE", "SUCC", "FAIL", "FATAL"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("STATE_%d", uint8(s))
}

// Code says in one byte what the receiver should do or know; the Text says it to people.
type Code uint8

// The codes. Never reuse a number.
const (
	NoCode Code = 0

	// INCR_REQ from a node.
	Bye      Code = 1 // a clean stop: do not wait for me
	Retrying Code = 2 // my database has trouble that may pass; Text says which
	Slow     Code = 3 // an increment has been at my database for long; Text says which
	Busy     Code = 4 // with NONE: increments are at my database, and the session is opened when they are done

	// INCR_REQ/SUCC from a node that was ordered to apply an increment outside the order; Request is the number of the
	// order.
	Applied    Code = 5 // it is done
	NotApplied Code = 6 // it was refused, and nothing of it is stored; Text says why
	MayApplied Code = 7 // whether it is done is not known; Text says why

	// INCR_REP from the broker.
	Welcome Code = 10 // your session is offered: it begins when you use it; you are fed the increments after Pos
	// this session is over: say INCR_REQ/NONE again; with Pos: and give up what is at your database up to there
	Reopen    Code = 11
	Fenced    Code = 12 // another process with your ID has taken over: stop
	NeedsDump Code = 13 // you cannot be fed from your position: DUMP
	Unknown   Code = 14 // nobody knows you and you prove no position: DUMP first
	Held      Code = 15 // you failed; an operator has to act
	Seek      Code = 16 // adopt Pos as your position, then say INCR_REQ/NONE
	Foreign   Code = 17 // your position is not of this log's history: refused
	OutOfLog  Code = 18 // the explicit position you asked for is not in the log
	Apply     Code = 19 // apply the increment in Body, which you have passed over, now; your position stays

	// DUMP_REQ and DUMP_REP.
	Opened    Code = 30 // the snapshot is open at Pos; its chunks can be read as they arrive
	Sealed    Code = 31 // the snapshot is complete
	Lease     Code = 32 // still at it
	Cancel    Code = 33 // to the target: give this snapshot up
	NotReady  Code = 34 // the target cannot serve a DUMP now; asking again later may help
	Refused   Code = 35 // the DUMP cannot be served; asking again will not help
	Abandoned Code = 36 // requester to broker: I do not want this DUMP any more
	// to the target: do what a snapshot needs while increments go on; from it, with SUCC: it is done
	Prepare Code = 37
)

func (c Code) String() string {
	names := [...]string{NoCode: "-", Bye: "bye", Retrying: "retrying", Slow: "slow", Busy: "busy", Applied: "applied",
		NotApplied: "not_applied", MayApplied: "may_have_applied", Apply: "apply", Welcome: "welcome",
		Reopen: "reopen",
		Fenced: "fenced", NeedsDump: "needs_dump", Unknown: "unknown", Held: "held", Seek: "seek", Foreign: "foreign",
		OutOfLog: "out_of_log", Opened: "opened", Sealed: "sealed", Lease: "lease", Cancel: "cancel",
		NotReady: "not_ready", Refused: "refused", Abandoned: "abandoned", Prepare: "prepare"}
	if int(c) < len(names) && names[c] != "" {
		return names[c]
	}
	return fmt.Sprintf("code_%d", uint8(c))
}
