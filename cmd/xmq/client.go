package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

func clientCommand() *cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "why; it will stand in the audit list"}
	seq := &cli.Uint64Flag{Name: "seq",
		Usage: "the increment; needed for a client that has not failed, and refused when it failed at another one"}
	limit := &cli.StringFlag{Name: "limit",
		Usage: "how long this increment may be at the database now: a `DURATION` of 1s to 720h, or none"}
	all := &cli.BoolFlag{Name: "all", Usage: "instead of IDs: every client that has failed or is retrying, with --seq " +
		"those that are at that increment, each as an order of its own"}
	allAt := &cli.BoolFlag{Name: "all", Usage: "instead of IDs: every client that has failed at the increment of " +
		"--seq, or is retrying it, each as an order of its own (needs --seq)"}
	list := positionsCommand()
	list.Name, list.Usage = "list", "the same as xmq positions"
	return &cli.Command{
		Name: "client", Usage: "look at one client, or decide about it",
		Subcommands: []*cli.Command{
			list,
			{Name: "show", Usage: "everything the broker knows of a client", ArgsUsage: "ID", Flags: apiFlags(),
				Action: clientShow},
			order(worker.Add, "register an ID before its node comes, for a reader of the log without a copy to join with "+
				"(webhook:, exec:): its node begins where it says, with --at SEQ", reason,
				&cli.StringSliceFlag{Name: "topics", Usage: "the topics that the node must name (default: any)"}),
			order(worker.Retry, "send the increment that failed again, or with --seq the one that the client works on",
				reason, seq, limit,
				all),
			order(worker.Skip, "pass over the increment that failed, or with --seq the one that the client works on; only "+
				"this client is concerned (needs --reason)", reason, seq, allAt),
			order(worker.Replace,
				"apply another body instead of that increment, for this client only (needs --reason)", reason, seq,
				limit, allAt,
				&cli.StringFlag{Name: "body", Usage: "the body itself"},
				&cli.StringFlag{Name: "file", Usage: "`FILE` that holds the body; - for stdin"}),
			order(worker.Apply, "apply an increment that the client has passed over, now and outside the order (needs --reason)",
				reason, confirmFlag()),
			order(worker.SeekTo, "set the position: the next increment applied is number SEQ; also of an ID that nobody "+
				"knows yet (needs --reason)", reason, confirmFlag(),
				&cli.Uint64Flag{Name: "to", Usage: "the next increment applied (or give it as the second argument)"}),
			order(worker.Forget, "remove the client, its position and its pin (needs --reason)", reason, confirmFlag()),
			order(worker.Redump, "let the client join again with a DUMP (needs --reason)", reason, confirmFlag()),
		},
	}
}

func clientShow(c *cli.Context) error {
	id, err := oneArg(c, "the client's ID")
	if err != nil {
		return err
	}
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var v worker.View
	var whole json.RawMessage
	if err := a.do(c.Context, "GET", "/v1/clients/"+url.PathEscape(id), nil, &whole); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c, whole)
	}
	if err := json.Unmarshal(whole, &v); err != nil {
		return fmt.Errorf("what answers at %s is no broker of this version (%w): look at --api", a.name, err)
	}
	makePlain(reflect.ValueOf(&v))
	return show(c, v, func(w io.Writer) {
		now := time.Now()
		fmt.Fprintf(w, "client\t%s\nrole\t%s\nstate\t%s\n", v.ID, v.Role,
			strings.TrimSpace(stateWords(&v)+" "+trouble(&v, now)))
		fmt.Fprintf(w, "base\t%s\nsent\t%s\nacked\t%s\nlag\t%s increments, %s\nrate\t%.0f/s\n", units.Count(v.Base),
			units.Count(v.Sent),
			units.Count(v.Acked), lagWords(v.Lag), behindWords(v.LagSeconds), v.Rate)
		fmt.Fprintf(w, "runs on\t%s\npid\t%s\nversion\t%s\ndatabase\t%s\nlast heard\t%s\n", topicWord(v.Host), pidWord(v.Pid),
			topicWord(v.Version), topicWord(v.Address), units.Stamp(v.Heard))
		if d := v.Disk; d != nil {
			fmt.Fprintf(w, "disk\t%s of %s free at %s\n", units.Bytes(int64(d.Free)), units.Bytes(int64(d.Total)),
				units.Stamp(d.Time))
		}
		fmt.Fprintf(w, "target\t%s\ntopics\t%s\nlog\t%s\nchain\t%s\nsession\t%s\nworker\t%d\ncreated\t%s\nupdated\t%s\n",
			v.Target,
			strings.Join(v.Topics, ", "), v.Log, v.Chain, v.Session, v.Worker, units.Stamp(v.Created), units.Stamp(v.Updated))
		if e := v.LastError; e != nil {
			fmt.Fprintf(w, "last error\t%s at %d (%s): %s\n", e.Class, e.Seq, units.Stamp(e.Time), e.Text)
		}
		if o := v.Order; o != nil {
			fmt.Fprintf(w, "ordered\t%s increment %d%s, not carried out yet\n", o.Verb, o.Seq, within(o.Limit))
		}
		if o := v.Outside; o != nil {
			fmt.Fprintf(w, "outside the order\tincrement %d, %s (%s)%s\n", o.Seq, outsideWord(o.Outcome), units.Stamp(o.Time),
				behindColon(o.Text))
		}
		if j := v.Join; j != nil {
			fmt.Fprintf(w, "joins from\t%s by DUMP %s\n", j.Target, j.Dump)
		}
	})
}

// outsideWord says what has become of an increment that was ordered outside the order.
func outsideWord(o statedb.Outcome) string {
	switch o {
	case "":
		return "on its way"
	case statedb.MayApplied:
		return "outcome unknown"
	}
	return string(o)
}

func behindColon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// within says a time limit behind an order; nothing when there is none.
func within(limit string) string {
	switch limit {
	case "":
		return ""
	case "none":
		return " without a time limit"
	}
	return " within " + limit
}

// retryAll orders a retry for every client that stands at one increment, and waits for what becomes of each. It ends
// with an error when one of them was refused, or has not come to a good end.
func retryAll(c *cli.Context, args []string, req api.Order) error {
	if len(args) > 0 || req.Seq != 0 {
		return usage("xmq client retry --all takes neither an ID nor --seq: each client is at an increment of its own")
	}
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var done struct {
		Retried []api.Retried `json:"retried"`
	}
	if err := a.do(c.Context, "POST", "/v1/clients/retry", req, &done); err != nil {
		return err
	}
	all := make([]given, 0, len(done.Retried))
	for _, r := range done.Retried {
		g := given{Ordered: api.Ordered{Client: r.Client, Done: string(worker.Retry), Seq: r.Seq, To: r.To, At: r.At},
			Refused: r.Refused}
		switch {
		case r.Refused != "":
			g.failure = errors.New(r.Refused)
		case r.At.IsZero() || !r.Connected: // a broker of an earlier build does not say when it was ordered
			g.Outcome = whenItComes
			if r.At.IsZero() {
				g.Outcome = "look at what came of it with xmq client show " + r.Client
			}
		}
		all = append(all, g)
	}
	await(c, a, worker.Retry, all)
	err = show(c, map[string]any{"retried": all}, func(w io.Writer) {
		if len(all) == 0 {
			fmt.Fprintln(w, "no client has failed or is retrying")
		}
		for _, g := range all {
			if g.Refused != "" {
				fmt.Fprintf(w, "%s: refused: %s\n", g.Client, g.Refused)
				continue
			}
			if what := fmt.Sprintf("retry of increment %d%s", g.Seq, within(req.Limit)); !hurried(worker.Retry, &g) {
				fmt.Fprintf(w, "%s: %s\n", g.Client, what)
			} else {
				fmt.Fprintf(w, "%s: its node tries its database again now\n", g.Client)
			}
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

func replacement(c *cli.Context) ([]byte, error) {
	switch path := c.String("file"); {
	case c.IsSet("body") && path != "", !c.IsSet("body") && path == "":
		return nil, usage("xmq client replace needs either --body or --file")
	case c.IsSet("body"):
		return []byte(c.String("body")), nil
	case path == "-":
		return io.ReadAll(c.App.Reader)
	default:
		return os.ReadFile(path)
	}
}
