package monitor

import (
	"fmt"
	"slices"
	"strings"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/worker"
)

// causes gives the alerts of clients that have failed at the same increment one sentence about it: when nobody who
// follows it has taken it, it is the increment that is bad.
func (l *Alerts) causes(all []api.AlertView, views []worker.View) {
	bySeq := map[uint64][]string{}
	for _, a := range all {
		if a.Standing() && a.Seq > 0 && strings.HasPrefix(a.Key, "fail/") {
			bySeq[a.Seq] = append(bySeq[a.Seq], a.Client)
		}
	}
	for seq, ids := range bySeq {
		if len(ids) < 2 {
			continue
		}
		text := l.cause(seq, ids, views)
		for i := range all {
			if all[i].Standing() && all[i].Seq == seq && strings.HasPrefix(all[i].Key, "fail/") {
				all[i].Cause = text
			}
		}
	}
}

// fewIDs is how many clients an order names one by one.
const fewIDs = 5

// cause is the sentence for one increment that these clients refuse.
func (l *Alerts) cause(seq uint64, ids []string, views []worker.View) string {
	var took, topic string
	if rec, err := api.ReadOne(l.Log, seq); err == nil {
		topic = rec.Topic
	}
	applied, follow := 0, 0
	for _, v := range views {
		if !event.Wants(v.Topics, []byte(topic)) {
			continue
		}
		follow++
		if v.Acked >= seq && !slices.Contains(ids, v.ID) {
			applied++
		}
	}
	of, who := "", strings.Join(ids, " ")
	if len(ids) > fewIDs { // it names those that have failed at this very increment
		who = "--all"
	}
	if topic != "" {
		of = " of topic " + topic
	}
	switch {
	case applied > 0:
		took = units.Do(uint64(applied), "other", "has", "have") + " applied it: compare the databases"
	case follow == len(ids):
		return fmt.Sprintf("increment %d is refused by all %d clients%s (%s): the increment is bad, not the databases. To "+
			"pass over it everywhere: xmq client skip --seq %d %s --reason TEXT",
			seq, len(ids), of, strings.Join(ids, ", "), seq, who)
	default:
		took = "no other has applied it yet"
	}
	return fmt.Sprintf("increment %d is refused by %s%s (%s), and %s. To pass over it there: xmq client skip "+
		"--seq %d %s --reason TEXT",
		seq, units.Of(uint64(len(ids)), "client"), of, strings.Join(ids, ", "), took, seq, who)
}
