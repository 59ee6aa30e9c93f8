// Package webhook is the target driver for anything behind HTTP: each increment is one request.
//
// # URL
//
//	webhook:URL[#dump=URL][&load=URL][&online=true][&timeout=DURATION]
//
// URL is http:// or https://. What stands after # is for this driver and is never sent; URLs in it are
// percent-encoded. A user and password in a URL become basic authorisation; the environment variable
// XMQ_WEBHOOK_AUTHORIZATION, when set, is sent as the header Authorization with every request.
//
// # Increments
//
// An increment whose content type is message/http is a whole HTTP/1.1 request (RFC 9112): its method, path, query,
// headers and body are replayed at the host of URL, the path after that of URL. A path that any server could take
// for one outside of that (dot segments, // at its beginning, a / or \ that is percent-encoded, however often) is a
// FAIL. Host, Authorization and what belongs to a connection are not taken over. Any other increment is a POST to URL
// with its own content type. Beside that every request carries
//
//	Idempotency-Key   LOG/SEQ
//	Xmq-Seq, Xmq-Log, Xmq-Time, and Xmq-Topic, Xmq-Key where the increment has them
//
// An increment that was skipped here and that an operator orders all the same (xmq client apply) comes outside the
// order, with Xmq-Outside: true: a receiver that knows old increments by Xmq-Seq must do it. The answer is read so:
//
//	2xx                             SUCC
//	408, 425, 429, 5xx              not now: the same increment comes again, no sooner than a Retry-After says
//	                                (1 h at most)
//	any other                       FAIL; a redirect is not followed
//
// A header Xmq-State: FAIL, FATAL or RETRY beside a status that is not 2xx beats the table. When no answer comes (the
// connection was cut, or timeout, by default 30s, or the increment's own limit has passed) the outcome is unknown and
// the same increment comes again.
//
// # At least once
//
// A request cannot be stored together with its position, so this driver cannot apply exactly once. Increments come in
// order; after a crash of the node, a lost answer or a lost acknowledgement those that the broker has not heard of
// come again, with the same Idempotency-Key. A receiver that must not do a thing twice remembers the greatest Xmq-Seq
// of an Xmq-Log that it has done, and answers 2xx to all up to it. The topics of the copy are remembered by the
// broker alone: after `xmq client forget`, or the loss of the broker's state store, start the node with the topics
// it had.
//
// # DUMP
//
// GET of the dump URL answers the copy as its body, with Xmq-Op: dump and Xmq-Seq, Xmq-Log, Xmq-Chain. Increments are
// held until it is read, unless online=true promises that the read is consistent once the headers are there. The load
// URL takes POSTs, each answered 2xx when done:
//
//	Xmq-Op: discard   remove what an unfinished load has left
//	Xmq-Op: load      the body is what dump answered: put it beside the live copy and verify it
//	Xmq-Op: switch    make it the live copy, as one step; Xmq-Seq, Xmq-Log, Xmq-Chain are its position
//	Xmq-Op: empty     204 when the live copy holds nothing, so that a DUMP overwrites nothing; 409 when it does
//
// Format "webhook-dump/1" is a stream of package snapstream with magic "XMQHOOKD", version 1 and no preface, around
// those bytes.
package webhook
