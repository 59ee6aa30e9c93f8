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

// Road is the third token of a subject.
type Road string

// The roads.
const (
	Up   Road = "up"
	Down Road = "down"
	Snap Road = "snap"
	Pub  Road = "pub"
	Many Road = "batch"
	Info Road = "info"
)

// Subject names one client's (or producer's) end of a road.
func Subject(group string, road Road, id string) string {
	return "xmq." + group + "." + string(road) + "." + id
}

// AnySubject is the broker's subscription to a whole road.
func AnySubject(group string, road Road) string { return Subject(group, road, "*") }

// SubjectID returns the identity a subject carries; false when it is not of this group and road, or the
// token is not an ID (CheckID).
func SubjectID(subject, group string, road Road) (string, bool) {
	id, ok := strings.CutPrefix(subject, Subject(group, road, ""))
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
