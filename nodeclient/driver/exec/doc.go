// Package exec is the target driver for anything a command can change: each increment is one run of a command.
//
// # URL
//
//	exec:COMMAND[?dump=COMMAND][&load=COMMAND][&position=COMMAND][&online=true][&timeout=DURATION]
//
// Each COMMAND is given to /bin/sh -c, in the folder in which the node was started; what a URL reserves (?, &, %, #,
// +) is percent-encoded. Values of increments never stand in a command line: they come on stdin and in the
// environment.
//
// # Increments
//
// The command gets the body on stdin and this environment beside the node's own:
//
//	XMQ_OP            apply
//	XMQ_SEQ           the sequence
//	XMQ_LOG           log ID, 16 hexadecimal digits
//	XMQ_CHAIN         chain after the increment, 16 hexadecimal digits
//	XMQ_TIME          the broker's time of the increment, RFC 3339 in UTC
//	XMQ_TOPIC, XMQ_CONTENT_TYPE, XMQ_ORIGIN, XMQ_PRODUCER, XMQ_KEY   headers, empty when not given
//
// An increment that was skipped here and that an operator orders all the same (xmq client apply) comes outside the
// order: then XMQ_OUTSIDE is its sequence, and unset otherwise. XMQ_SEQ is the same; with position=, where the copy
// stands, which is to be stored as ever. A command that knows old increments by XMQ_SEQ must run it.
//
// The exit code is the answer:
//
//	0   SUCC, the increment is applied
//	1   FAIL, nothing of it is applied: an operator decides
//	75  not now: the same increment comes again
//	77  FATAL, this copy is lost: DUMP again
//
// Any other code is a FAIL, 2 among them: a shell ends with it when it cannot read its script, and many a tool when
// it cannot read its arguments, and 255, with which Perl and PHP end when a program dies. A command that is killed
// (which a shell tells by 129 to 192), or runs longer than timeout (default 1m) or the increment's own limit, has an
// unknown outcome: the same increment comes again. The end of what it writes to stderr stands in errors; its stdout
// is thrown away.
//
// # At least once
//
// Without position= the driver remembers nothing: after a crash the node goes on after what the broker has heard of,
// and the increments applied since come again. A command that must not do a thing twice compares XMQ_LOG and XMQ_SEQ
// with what it has stored. With position= the copy keeps its position itself, and increments are applied exactly once
// if the apply command stores XMQ_LOG, XMQ_SEQ and XMQ_CHAIN together with its change. The position command runs with
//
//	XMQ_OP=position   it prints "LOG SEQ CHAIN" as stored, or nothing when there is none
//	XMQ_OP=seek       it stores XMQ_LOG, XMQ_SEQ and XMQ_CHAIN
//
// The topics of the copy are remembered by the broker alone: after `xmq client forget`, or the loss of the broker's
// state store, start the node with the topics it had.
//
// # DUMP
//
// The dump command writes the copy to stdout, with XMQ_OP=dump. Increments are held until it has ended, unless
// online=true promises that its read is consistent from its first byte on (a snapshot of a file system, a database's
// own tool): then they are held until that byte. The load command runs with
//
//	XMQ_OP=discard    remove what an unfinished load has left
//	XMQ_OP=load       stdin is what dump wrote: put it beside the live copy, verify it, exit 0
//	XMQ_OP=switch     make it the live copy, as one step; XMQ_LOG, XMQ_SEQ and XMQ_CHAIN are its position
//	XMQ_OP=empty      exit 0 when the live copy holds nothing, so that a DUMP overwrites nothing
//
// Format "exec-dump/1" is a stream of package snapstream with magic "XMQEXECD", version 1 and no preface, around
// those bytes.
package exec
