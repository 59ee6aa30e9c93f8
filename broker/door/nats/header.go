package nats

import (
	"strings"

	"github.com/nats-io/nats.go"

	"xmq/broker/door"
	"xmq/broker/event"
)

// readable refuses a header block that nobody can read. nats.go hands over such a message without any headers: only its
// size tells.
func readable(m *nats.Msg) *door.Refusal {
	if m.Header == nil && m.Size() > len(m.Subject)+len(m.Reply)+len(m.Data) {
		return door.Refuse(door.Invalid, "the header block is not readable: each of its lines is `Name: value`")
	}
	return nil
}

// draftOf makes a draft of one message of a producer. Names of headers are matched in any case: a key that was
// overlooked would be an increment stored twice.
func draftOf(m *nats.Msg, producer string) (event.Draft, *door.Refusal) {
	d := event.Draft{Headers: event.Headers{Producer: producer}, Body: m.Data}
	if refused := readable(m); refused != nil {
		return d, refused
	}
	said := make(map[string][]string, len(m.Header))
	for name, values := range m.Header {
		if strings.TrimSpace(name) != name {
			return d, door.Refuse(door.Invalid, "the header name %.40q begins or ends with a blank", name)
		}
		name = strings.ToLower(name)
		said[name] = append(said[name], values...)
	}
	return d, door.SetHeaders(&d, func(name string) []string { return said[name] })
}
