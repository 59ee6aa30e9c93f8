package event

import "strings"

// Topics are the topics whose increments a copy holds, in the form in which they are stored beside its position and
// with a snapshot: AllTopics, or the topics in their order with commas between, at most 4095 bytes. "" says that they
// are not known: nothing is stored, as by the first revision of XMQ.
type Topics string

// AllTopics stands for a copy that holds the increments of all topics, and those without one.
const AllTopics Topics = "*"

// TopicsOf is topics, as SortTopics returns them, in that form; none means all.
func TopicsOf(topics []string) Topics {
	if len(topics) == 0 {
		return AllTopics
	}
	return Topics(strings.Join(topics, ","))
}

// Known reports whether t says anything.
func (t Topics) Known() bool { return t != "" }

// String is t for people.
func (t Topics) String() string {
	switch t {
	case "":
		return "(unknown)"
	case AllTopics:
		return "(all)"
	}
	return string(clip([]byte(t), 200))
}
