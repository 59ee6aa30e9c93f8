package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/statedb"
	"xmq/worker"
)

// Status is the answer of GET /v1/status: what a person who has just been woken must know.
type Status struct {
	Broker   Header           `json:"broker"`
	Input    *Input           `json:"input"` // why no increments are taken; null while they are
	Group    string           `json:"group"`
	Log      event.LogID      `json:"log"`
	First    uint64           `json:"first"`
	Head     uint64           `json:"head"`
	Severity statedb.Severity `json:"severity,omitempty"` // of the worst of what is wrong; empty when all is well
	// Alerts are those that last, the worst first, of equals the oldest.
	Alerts []AlertView `json:"alerts"`
	// Clients is how many there are of which it is so.
	Clients map[worker.Is]int `json:"clients"`
	// Wrong are the clients with which something is wrong, the worst first.
	Wrong []worker.View `json:"wrong"`
}

// Header is what every screen begins with: who answers, and when.
type Header struct {
	Time      time.Time `json:"time"`
	Version   string    `json:"version"`
	Host      string    `json:"host"`
	Pid       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Rate      float64   `json:"rate"` // increments taken a second, smoothed over some seconds
	DiskFree  uint64    `json:"disk_free"`
	DiskTotal uint64    `json:"disk_total"` // 0: it could not be asked
}

// Input says why the broker takes no increments now, and since when: the first line of every screen.
type Input struct {
	Code  door.Code `json:"code"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// String is what screens begin with.
func (i *Input) String() string {
	what := "REFUSED"
	if i.Code == door.Held {
		what = "HELD"
	}
	return fmt.Sprintf("INPUT IS %s since %s (%s): %s", what, i.Since.UTC().Format("2006-01-02 15:04:05Z"), i.Code, i.Text)
}

func (h *Handler) askStatus(r *http.Request) (any, error) { return h.status(r.Context()) }

func (h *Handler) status(ctx context.Context) (Status, error) {
	views, err := h.Broker.Views(ctx)
	head := h.Log.Head()
	s := Status{Broker: h.Broker.Header(), Input: h.Broker.Input(), Group: h.Group, Log: head.Log, First: h.Log.First(),
		Head: head.Seq, Alerts: []AlertView{},
		Clients: map[worker.Is]int{}, Wrong: []worker.View{}}
	worst := func(v statedb.Severity) {
		if v.Rank() > s.Severity.Rank() {
			s.Severity = v
		}
	}
	if s.Input != nil {
		worst(statedb.Critical)
	}
	for _, a := range h.Broker.Alerts(views) {
		if a.Standing() {
			s.Alerts = append(s.Alerts, a)
			worst(a.Severity)
		}
	}
	slices.SortStableFunc(s.Alerts, func(a, b AlertView) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), a.First.Compare(b.First))
	})
	for _, v := range views {
		s.Clients[v.Condition.Is]++
		if bad := v.Condition.Is.Severity(); bad != "" {
			s.Wrong = append(s.Wrong, v)
			worst(bad)
		}
	}
	slices.SortStableFunc(s.Wrong, worker.ByTrouble)
	return s, err
}

// readyz answers a load balancer: 200 while increments are taken, else 503 with a sentence why not.
func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	i := h.Broker.Input()
	if i == nil {
		_, _ = io.WriteString(w, "ready\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintln(w, i)
}
