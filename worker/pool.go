package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"xmq/dumpflow"
	"xmq/statedb"
)

// Pool is the workers, and the rule which client belongs to which of them.
type Pool struct{ workers []*Worker }

// NewPool makes n workers (1 or more) and gives them the stored clients and dumps. Nothing runs yet.
func NewPool(n int, rules Rules, env Env, clients []statedb.Client, dumps []dumpflow.Dump) *Pool {
	p := &Pool{}
	for i := range n {
		p.workers = append(p.workers, newWorker(i, &rules, &env, p.route))
	}
	byTarget := map[string][]dumpflow.Dump{}
	for _, d := range dumps {
		byTarget[d.Target] = append(byTarget[d.Target], d)
	}
	for i := range clients {
		id := clients[i].ID
		p.of(id).restore(id, &clients[i], byTarget[id])
		delete(byTarget, id)
	}
	for id, d := range byTarget { // dumps of clients that were forgotten
		p.of(id).restore(id, nil, d)
	}
	return p
}

// Workers are the goroutines to run.
func (p *Pool) Workers() []*Worker { return p.workers }

// Number is the worker of a client: the FNV-1a hash of its ID modulo the number of workers, so an ID always
// meets the same worker and anagrams do not collide (XC-6, XD-21).
func (p *Pool) Number(id string) int {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return int((h ^ h>>32) % uint64(len(p.workers)))
}

func (p *Pool) of(id string) *Worker { return p.workers[p.Number(id)] }

// Post gives a client's machine an input. It never blocks: false when the worker's inbox is full and the
// input was dropped, which every sender of events must expect. What it points to belongs to the worker.
func (p *Pool) Post(id string, in Input) bool {
	select {
	case p.of(id).inbox <- message{id: id, in: in}:
		return true
	default:
		return false
	}
}

func (p *Pool) route(to string, in Input) { p.Post(to, in) }

// PostWait is Post that waits for room until ctx ends. Workers never call it.
func (p *Pool) PostWait(ctx context.Context, id string, in Input) error {
	return p.send(ctx, p.of(id), message{id: id, in: in})
}

func (p *Pool) send(ctx context.Context, w *Worker, l message) error {
	select {
	case w.inbox <- l:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker %d: %w", w.number, ctx.Err())
	}
}

// Order gives an operator's order and waits until its effect is durable, or ctx ends (then the outcome is
// unknown). Refused of the answer is one sentence,
// empty when done.
func (p *Pool) Order(ctx context.Context, id string, o Order) (a OrderReply, err error) {
	c := make(chan OrderReply, 1)
	if err := p.send(ctx, p.of(id), message{id: id, in: Input{Order: &o}, answer: c}); err != nil {
		return a, err
	}
	select {
	case a = <-c:
		return a, nil
	case <-ctx.Done():
		return a, fmt.Errorf("order %s for %s: the outcome is unknown: %w", o.Verb, id, ctx.Err())
	}
}

// Views returns all clients as the outside sees them, by ID.
func (p *Pool) Views(ctx context.Context) ([]View, error) {
	all := []View{}
	for _, w := range p.workers {
		views, err := p.ask(ctx, w, "")
		if err != nil {
			return nil, err
		}
		all = append(all, views...)
	}
	slices.SortFunc(all, func(a, b View) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// View returns one client; false when there is no such client.
func (p *Pool) View(ctx context.Context, id string) (View, bool, error) {
	views, err := p.ask(ctx, p.of(id), id)
	if err != nil || len(views) == 0 {
		return View{}, false, err
	}
	return views[0], true, nil
}

func (p *Pool) ask(ctx context.Context, w *Worker, id string) ([]View, error) {
	c := make(chan []View, 1)
	if err := p.send(ctx, w, message{id: id, views: c}); err != nil {
		return nil, err
	}
	select {
	case v := <-c:
		return v, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("worker %d: %w", w.number, ctx.Err())
	}
}

// Wake says that the head of the log has moved. It never blocks and news may merge.
func (p *Pool) Wake() {
	for _, w := range p.workers {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
