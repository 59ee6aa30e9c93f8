package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"xmq/statedb"
)

// decided is one earlier decision about an increment, for people.
func decided(a statedb.Audit) string {
	verb := map[string]string{"skip": "skipped", "replace": "replaced"}[a.Verb]
	who := a.Via
	if who == "" {
		who = a.By
	}
	return fmt.Sprintf("increment %d was %s for client %s at %s by %s (audit %d): %s", a.Seq, verb, a.Client, at(a.Time).Format("2006-01-02 15:04:05Z"), who, a.Number, a.Reason)
}

// earlier is what operators have decided about an increment before, behind a sentence; empty for nothing.
func (b *Broker) earlier(seq uint64) string {
	var all []string
	for _, a := range b.stores.state.Decisions(seq) {
		all = append(all, decided(a))
	}
	if len(all) == 0 {
		return ""
	}
	return ". Earlier: " + strings.Join(all[max(0, len(all)-3):], "; ")
}

// apiDecisions tells what was decided about one increment, a sentence each.
func (b *Broker) apiDecisions(r *http.Request) (any, error) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%.40q is no sequence", r.PathValue("seq"))
	}
	all := []string{}
	for _, a := range b.stores.state.Decisions(seq) {
		all = append(all, decided(a))
	}
	return all, nil
}
