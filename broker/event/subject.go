package event

import "strings"

// The subjects of one group, all of them. A client's identity is the subject token, never the body.
//
//	xmq.<group>.up.<client>     node -> broker, events
//	xmq.<group>.down.<client>   broker -> node, events
//	xmq.<group>.snap.<client>   node -> broker, requests: chunks of a snapshot
//	xmq.<group>.pub.<producer>  producer -> broker, requests: one increment each
//	xmq.<group>.batch.<producer>  producer -> broker, requests: a Batch each; not ordered with those on pub
//	xmq.<group>.info.broker     broker -> broker, requests: who serves this group? The answer is its log ID
//
// Replies go only to _INBOX_<client>.> (see ReplyAllowed).

// Channel is the third token of a subject.
type Channel string

// The channels.
const (
	Up   Channel = "up"
	Down Channel = "down"
	Snap Channel = "snap"
	Pub  Channel = "pub"
	Many Channel = "batch"
	Info Channel = "info"
)

// Subject names one client's (or producer's) end of a channel.
func Subject(group string, channel Channel, id string) string {
	return "xmq." + group + "." + string(channel) + "." + id
}

// AnySubject is the broker's subscription to a whole channel.
func AnySubject(group string, channel Channel) string { return Subject(group, channel, "*") }

// SubjectID returns the identity a subject carries; false when it is not of this group and channel, or the
// token is not an ID (CheckID).
func SubjectID(subject, group string, channel Channel) (string, bool) {
	id, ok := strings.CutPrefix(subject, Subject(group, channel, ""))
	if !ok || CheckID(id) != nil {
		return "", false
	}
	return id, true
}

// InboxPrefix is what a client or producer sets as its inbox prefix (nats.CustomInboxPrefix).
func InboxPrefix(id string) string { return "_INBOX_" + id }

// ReplyAllowed reports whether an answer to id may go to reply: only into its own inbox, the dot
// included (n1 is not n10), and never to a pattern. Without this check a node could make the broker
// speak to another node in its own name.
func ReplyAllowed(id, reply string) bool {
	rest, ok := strings.CutPrefix(reply, InboxPrefix(id)+".")
	if !ok || rest == "" || len(reply) > 255 {
		return false
	}
	for _, token := range strings.Split(rest, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
			return false
		}
	}
	return true
}
