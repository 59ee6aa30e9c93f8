package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Params are what a run is told.
type Params struct {
	Rounds int       // each side runs so often; at least 1
	Peer   string    // "" for the scenario's first
	Tiny   bool      // as small as possible: that nothing has rotted is all it shows
	Size   int       // bytes of a payload; 0 for the scenario's own
	Nodes  int       // of fanout; 0 for 4
	Log    io.Writer // hears each figure as it comes; nil for nobody
}

func (p *Params) say(format string, args ...any) {
	if p.Log != nil {
		fmt.Fprintf(p.Log, format+"\n", args...)
	}
}

// pick is full, or tiny in a tiny run.
func pick[T any](p *Params, full, tiny T) T {
	if p.Tiny {
		return tiny
	}
	return full
}

// side makes the figure of one side once. dir is an empty folder that is removed after it.
type side func(ctx context.Context, dir string, p *Params) (float64, error)

// Scenario is one question with one figure.
type Scenario struct {
	Name  string
	Asks  string // what is measured, for people
	Unit  string
	Less  bool // the smaller figure is the better one
	Aim   string
	disk  string // what is on the disk when our answer comes
	ours  side
	peers []peer // none: the figure stands alone
}

type peer struct {
	name   string
	disk   string // what is on the disk when its answer comes
	theirs side
}

// Round is one figure of each side, measured one after the other.
type Round struct {
	Ours   float64 `json:"ours"`
	Theirs float64 `json:"theirs,omitempty"`
}

// Result is one scenario measured; the wire shape of xmq bench --json.
type Result struct {
	Scenario string  `json:"scenario"`
	Rounds   []Round `json:"rounds"`
	Ours     float64 `json:"ours"` // medians
	Peer     string  `json:"peer,omitempty"`
	Theirs   float64 `json:"theirs,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // median of the ratios round by round; above 1 is better than the peer
	Unit     string  `json:"unit"`
	Asks     string  `json:"asks"`
	Aim      string  `json:"aim,omitempty"`
	Disk     string  `json:"disk,omitempty"`      // what is on the disk when an answer comes
	PeerDisk string  `json:"peer_disk,omitempty"` // the same of the peer
	Seconds  float64 `json:"seconds"`
}

// Find returns the scenario of a name.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q: use %s or all", name, strings.Join(names, ", "))
}

// Peers are the names of a scenario's peers.
func (s *Scenario) Peers() (names []string) {
	for _, p := range s.peers {
		names = append(names, p.name)
	}
	return names
}

// peer is the one of a name: "" for the first, nil when there is none.
func (s *Scenario) peer(name string) (*peer, error) {
	for i := range s.peers {
		if name == "" || s.peers[i].name == name {
			return &s.peers[i], nil
		}
	}
	if name == "" {
		return nil, nil
	}
	return nil, fmt.Errorf("%s has no peer %q: it has %s", s.Name, name, cmp.Or(strings.Join(s.Peers(), ", "), "none"))
}

// Check reports, as one sentence, that a scenario has no such peer. "" is right always.
func (s *Scenario) Check(peer string) error {
	_, err := s.peer(peer)
	return err
}

// Run measures a scenario. It blocks for as long as that takes; ctx ends it with an error.
func (s *Scenario) Run(ctx context.Context, p Params) (Result, error) {
	began := time.Now()
	r := Result{Scenario: s.Name, Unit: s.Unit, Asks: s.Asks, Aim: s.Aim, Disk: s.disk}
	against, err := s.peer(p.Peer)
	if err != nil {
		return r, err
	}
	if against != nil {
		r.Peer, r.PeerDisk = against.name, against.disk
	}
	rounds := max(1, p.Rounds)
	for i := range rounds {
		var round Round
		var err error
		label := fmt.Sprintf("%s, round %d of %d", strings.TrimSpace(s.Name+" "+r.Peer), i+1, rounds)
		if round.Ours, err = inFolder(ctx, s.ours, &p); err != nil {
			return r, fmt.Errorf("%s: %w", s.Name, err)
		}
		p.say("%s: ours %s %s", label, figure(round.Ours), s.Unit)
		if against != nil {
			if round.Theirs, err = inFolder(ctx, against.theirs, &p); err != nil {
				return r, fmt.Errorf("%s, %s: %w", s.Name, against.name, err)
			}
			p.say("%s: theirs %s %s", label, figure(round.Theirs), s.Unit)
		}
		r.Rounds = append(r.Rounds, round)
	}
	r.sum(s.Less)
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// sum makes the medians.
func (r *Result) sum(less bool) {
	var ours, theirs, ratios []float64
	for _, round := range r.Rounds {
		ours, theirs = append(ours, round.Ours), append(theirs, round.Theirs)
		if round.Ours > 0 && round.Theirs > 0 {
			ratio := round.Ours / round.Theirs
			if less {
				ratio = 1 / ratio
			}
			ratios = append(ratios, ratio)
		}
	}
	r.Ours, r.Theirs = median(ours), median(theirs)
	if len(ratios) > 0 {
		r.Ratio = median(ratios)
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func inFolder(ctx context.Context, f side, p *Params) (v float64, err error) {
	dir, err := os.MkdirTemp("", "xmq-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if v, err = f(ctx, dir, p); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // said once, not by each part that it ended
	}
	return v, err
}

// WriteTable writes results for people.
func WriteTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tOURS\tMIN..MAX\tPEER\tTHEIRS\tRATIO\tAIM\tUNIT")
	for _, r := range results {
		low, high := r.Rounds[0].Ours, r.Rounds[0].Ours
		for _, round := range r.Rounds {
			low, high = min(low, round.Ours), max(high, round.Ours)
		}
		theirs, ratio := "-", "-"
		if r.Peer != "" {
			theirs, ratio = figure(r.Theirs), fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(t, "%s\t%s\t%s..%s\t%s\t%s\t%s\t%s\t%s\n", r.Scenario, figure(r.Ours), figure(low), figure(high),
			cmp.Or(r.Peer, "-"), theirs, ratio, cmp.Or(r.Aim, "-"), r.Unit)
	}
	return t.Flush()
}

// figure is a number of three or more digits that matter.
func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// WriteJSON writes each result as one line.
func WriteJSON(w io.Writer, r Result) error { return json.NewEncoder(w).Encode(r) }
