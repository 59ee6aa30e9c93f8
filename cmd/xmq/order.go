package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

// many reports that an order may name several clients.
func many(v worker.Verb) bool { return v == worker.Retry || v == worker.Skip || v == worker.Replace }

// numbered reports that an order names one client and one increment.
func numbered(v worker.Verb) bool { return v == worker.SeekTo || v == worker.Apply }

// order makes the subcommand for one verb.
func order(verb worker.Verb, usageText string, flags ...cli.Flag) *cli.Command {
	argsUsage := "ID"
	switch {
	case numbered(verb):
		argsUsage = "ID SEQ"
	case many(verb):
		argsUsage = "ID..."
	}
	if many(verb) || numbered(verb) {
		flags = append(flags,
			&cli.DurationFlag{Name: "wait", Usage: "how long to wait for the outcome", Value: 10 * time.Second},
			&cli.BoolFlag{Name: "no-wait", Usage: "end as soon as the order is given"})
	}
	return &cli.Command{
		Name: string(verb), Usage: usageText, ArgsUsage: argsUsage, Flags: apiFlags(flags...),
		Action: func(c *cli.Context) error {
			ids, req, err := readOrder(c, verb)
			if err != nil {
				return err
			}
			if verb == worker.Retry && c.Bool("all") && req.Seq == 0 {
				return retryAll(c, ids, req)
			}
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			if c.Bool("all") {
				if ids, err = at(c, a, req.Seq); err != nil {
					return err
				}
			}
			return give(c, a, verb, ids, req)
		},
	}
}

// readOrder is what the command line says.
func readOrder(c *cli.Context, verb worker.Verb) (ids []string, req api.Order, err error) {
	req = api.Order{Seq: c.Uint64("seq"), Limit: c.String("limit"), Topics: c.StringSlice("topics"),
		Reason:  c.String("reason"),
		Confirm: c.Bool("confirm"), Caller: api.Caller{Via: operator()}}
	if _, err := event.ParseLimit(req.Limit); req.Limit != "" && err != nil {
		return nil, req, usage("xmq client %s --limit: %v", verb, err)
	}
	ids = c.Args().Slice()
	if numbered(verb) {
		which := "the increment that it has passed over"
		if verb == worker.SeekTo {
			req.Seq, which = c.Uint64("to"), "the next increment"
		}
		if len(ids) == 2 {
			if req.Seq, err = strconv.ParseUint(ids[1], 10, 64); err != nil {
				return nil, req, usage("xmq client %s: %q is not a sequence", verb, ids[1])
			}
			ids = ids[:1]
		}
		if req.Seq == 0 {
			return nil, req, usage("xmq client %s needs a client ID and %s: xmq client %s ID SEQ --reason TEXT", verb, which,
				verb)
		}
	}
	all := c.Bool("all")
	switch {
	case all && len(ids) > 0:
		return nil, req, usage("xmq client %s takes either IDs or --all", verb)
	case all && req.Seq == 0 && verb != worker.Retry:
		return nil, req, usage("xmq client %s --all needs --seq N: the increment that is meant", verb)
	case len(ids) > 1 && many(verb) && req.Seq == 0:
		return nil, req, usage("xmq client %s of several clients needs --seq N: the increment that is meant", verb)
	case len(ids) == 0 && many(verb) && !all:
		return nil, req, usage("xmq client %s needs one client ID, or several, or --all", verb)
	case len(ids) != 1 && !many(verb):
		return nil, req, usage("xmq client %s needs one client ID", verb)
	}
	if verb == worker.Skip || verb == worker.Replace || verb == worker.SeekTo || verb == worker.Forget ||
		verb == worker.Redump ||
		verb == worker.Apply {
		if err := needsReason(c, "xmq client "+string(verb)); err != nil {
			return nil, req, err
		}
	}
	if verb == worker.Replace {
		req.Body, err = replacement(c)
	}
	return ids, req, err
}

// at are the clients that stand at increment seq: it has failed there, or is tried again.
func at(c *cli.Context, a *apiClient, seq uint64) (ids []string, err error) {
	var p api.Positions
	if err := a.do(c.Context, "GET", "/v1/positions", nil, &p); err != nil {
		return nil, err
	}
	for _, v := range p.Clients {
		if v.Stuck() && v.LastError.Seq == seq {
			ids = append(ids, v.ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("no client has failed at increment %d or is retrying it", seq)
	}
	return ids, nil
}

// given is one order and what became of it.
type given struct {
	api.Ordered
	Outcome string `json:"outcome,omitempty"` // in one sentence
	Refused string `json:"refused,omitempty"` // nothing was ordered
	failure error
}

// give gives an order to each client and waits for what becomes of it.
func give(c *cli.Context, a *apiClient, verb worker.Verb, ids []string, req api.Order) error {
	var all []given
	for _, id := range ids {
		g, err := giveOne(c, a, verb, id, req)
		if err != nil && len(ids) == 1 {
			return err
		}
		if err != nil {
			g = given{Ordered: api.Ordered{Client: id, Done: string(verb)}, Refused: err.Error(), failure: err}
		}
		all = append(all, g)
	}
	await(c, a, verb, all)
	var shown any = all
	if len(all) == 1 {
		shown = all[0]
	}
	err := show(c, shown, func(w io.Writer) {
		for _, g := range all {
			if g.Refused != "" {
				fmt.Fprintf(w, "%s: refused: %s\n", g.Client, g.Refused)
				continue
			}
			fmt.Fprintf(w, "%s: %s: %s\n", g.Client, verb, g.Told)
			if g.Outcome != "" && g.failure == nil {
				fmt.Fprintf(w, "%s: %s\n", g.Client, g.Outcome)
			}
		}
	})
	if err != nil {
		return err
	}
	return failures(all)
}

// await waits for what becomes of orders that were given.
func await(c *cli.Context, a *apiClient, verb worker.Verb, all []given) {
	if c.Bool("no-wait") || c.Duration("wait") <= 0 {
		return
	}
	for i := range all {
		if all[i].failure == nil && all[i].Outcome == "" {
			all[i].Outcome, all[i].failure = outcome(c, a, verb, &all[i])
		}
	}
}

// failures is nil when all orders have come to a good end.
func failures(all []given) error {
	failed := slices.DeleteFunc(slices.Clone(all), func(g given) bool { return g.failure == nil })
	switch {
	case len(failed) == 0:
		return nil
	case len(all) == 1:
		return failed[0].failure
	}
	var texts []error
	for _, g := range failed {
		if g.Refused == "" {
			texts = append(texts, g.failure)
		}
	}
	return errors.Join(append(texts, fmt.Errorf("%d of %s did not come to a good end; see above", len(failed),
		units.Of(uint64(len(all)), "client")))...)
}

// whenItComes is the outcome of an order that nobody waits for.
const whenItComes = "its node is not connected: the order is carried out when it comes"

// giveOne gives an order to one client; when the broker asks whether it is meant, so does the tool.
func giveOne(c *cli.Context, a *apiClient, verb worker.Verb, id string, req api.Order) (g given, err error) {
	path := "/v1/clients/" + url.PathEscape(id)
	waits := (many(verb) || numbered(verb)) && !c.Bool("no-wait")
	var before worker.View
	if waits { // an ID that nobody knows has no node to wait for
		no := (*refusal)(nil)
		if err := a.do(c.Context, "GET", path, nil, &before); err != nil && !errors.As(err, &no) {
			return g, err
		}
	}
	err = a.do(c.Context, "POST", path+"/"+string(verb), req, &g.Ordered)
	if no := (*refusal)(nil); errors.As(err, &no) && no.code == string(door.Confirm) {
		if err := confirmed(c, no.text+".", "Is that meant?"); err != nil {
			return g, err
		}
		req.Confirm = true
		err = a.do(c.Context, "POST", path+"/"+string(verb), req, &g.Ordered)
	}
	if err == nil && waits && !before.Connected && !hurried(verb, &g) {
		g.Outcome = whenItComes
	}
	return g, err
}

// hurried reports that a retry was about no increment: a node that waits for its database tries again now.
func hurried(verb worker.Verb, g *given) bool { return verb == worker.Retry && g.Seq == 0 }

// outcome waits until an order has come to its end, good or bad, and says which.
func outcome(c *cli.Context, a *apiClient, verb worker.Verb, g *given) (string, error) {
	if !many(verb) && !numbered(verb) {
		return "", nil
	}
	seq := g.To
	switch verb {
	case worker.Apply:
		seq = g.Seq
	case worker.SeekTo: // the next one shows whether its database takes it
		seq++
	}

	limit := time.NewTimer(c.Duration("wait"))
	defer limit.Stop()
	for {
		var v worker.View
		if err := a.do(c.Context, "GET", "/v1/clients/"+url.PathEscape(g.Client), nil, &v); err != nil {
			return "", err
		}
		if verb == worker.Apply {
			if text, over, err := ranOutside(v, seq, g.At); over {
				return text, err
			}
		} else if hurried(verb, g) {
			if v.Condition.Is != worker.IsRetrying && v.Condition.Is != worker.IsReturning {
				return fmt.Sprintf("done, it is %s at %d", v.Condition.Is, v.Acked), nil
			}
		} else if text, failed, over := settled(verb, v, seq, g.At); over && failed {
			return "", errors.New(text)
		} else if over {
			return text, nil
		}
		select {
		case <-c.Context.Done():
			return "", c.Context.Err()
		case <-limit.C:
			why := ""
			if v.LastError != nil {
				why = fmt.Sprintf(" (%s)", v.LastError.Text)
			}
			if hurried(verb, g) {
				return "", &temporaryError{fmt.Errorf("%s still waits for its database after %s%s: its node goes on trying, look "+
					"again with xmq client show %s", g.Client, c.Duration("wait"), why, g.Client)}
			}
			if verb == worker.Apply {
				return "", &temporaryError{fmt.Errorf("%s has not answered within %s whether increment %d is applied: the order "+
					"stands, look again with "+
					"xmq client show %s", g.Client, c.Duration("wait"), seq, g.Client)}
			}
			return "", &temporaryError{fmt.Errorf("%s is %s at %d and has not come past increment %d within %s%s: the order "+
				"stands, look again with xmq client show %s",
				g.Client, v.State, v.Acked, seq, c.Duration("wait"), why, g.Client)}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ranOutside says what has become of an increment that was ordered outside the order at a time. Unknown needs a person.
func ranOutside(v worker.View, seq uint64, at time.Time) (text string, over bool, err error) {
	o := v.Outside
	if o == nil || o.Seq != seq || o.Time.Before(at) {
		return "", false, nil
	}
	switch o.Outcome {
	case statedb.Applied:
		return fmt.Sprintf("increment %d is applied, it stands at %d as before", seq, v.Acked), true, nil
	case statedb.NotApplied:
		return "", true, fmt.Errorf("%s has not applied increment %d, and nothing of it is stored: %s", v.ID, seq, o.Text)
	case statedb.MayApplied:
		return "", true, &damageError{fmt.Errorf("whether %s has applied increment %d is not known: %s. look into its "+
			"database", v.ID, seq, o.Text)}
	}
	return "", false, nil
}

// settled says what has become of an order given at a time, about increment seq.
func settled(verb worker.Verb, v worker.View, seq uint64, at time.Time) (text string, failed, over bool) {
	fresh := v.LastError != nil && v.LastError.Time.After(at)
	switch {
	case v.Moves != nil:
		return "", false, false
	case v.State == statedb.Failed && fresh && v.LastError.Seq == seq && verb != worker.SeekTo:
		return fmt.Sprintf("%s failed again at %d: %s", v.ID, seq, v.LastError.Text), true, true
	// it is done; the client stands still
	case v.State == statedb.Failed && fresh && v.Acked >= seq && verb != worker.SeekTo:
		return fmt.Sprintf("%s of increment %d at %s is done, it stands at %d; then it failed at %d: %s", verb, seq, v.ID,
			v.Acked, v.LastError.Seq, v.LastError.Text), true, true
	case v.State == statedb.Failed && fresh:
		return fmt.Sprintf("%s failed at %d: %s", v.ID, v.LastError.Seq, v.LastError.Text), true, true
	case v.State == statedb.Fatal || v.State == statedb.NeedsDump:
		return fmt.Sprintf("%s is %s", v.ID, v.State), true, true
	case v.Order != nil && v.Order.Seq == seq && many(verb):
		return "", false, false
	case v.Acked >= seq && verb == worker.Skip:
		return fmt.Sprintf("done, it stands at %d; if that was the wrong one: xmq client apply %s %d --confirm --reason TEXT",
			v.Acked, v.ID, seq), false, true
	case v.Acked >= seq, verb == worker.SeekTo && v.Connected && v.Acked+1 == seq && v.Lag != nil && *v.Lag == 0:
		return fmt.Sprintf("done, it stands at %d", v.Acked), false, true
	}
	return "", false, false
}
