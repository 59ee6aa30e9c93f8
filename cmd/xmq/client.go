package main

import (
	"cmp"
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
	_, err = io.WriteString(c.App.Writer, clientScreen(&v, time.Now(), sizeOf(c.App.Writer).columns))
	return err
}

// clientScreen is all that is known of one client, a line for each thing, on lines of at most so many columns.
func clientScreen(v *worker.View, now time.Time, columns int) string {
	var all [][2]string
	row := func(name, format string, args ...any) {
		all = append(all, [2]string{name, fmt.Sprintf(format, args...)})
	}
	row("client", "%s", v.ID)
	row("role", "%s", v.Role)
	row("state", "%s", strings.TrimSpace(stateWords(v)+" "+trouble(v, now)))
	row("base", "%s", units.Count(v.Base))
	row("sent", "%s", units.Count(v.Sent))
	row("acked", "%s", units.Count(v.Acked))
	if v.Lag != nil {
		row("lag", "%s, %s", units.Of(*v.Lag, "increment"), behindWords(v.LagSeconds))
	} else {
		row("lag", "?, %s", behindWords(v.LagSeconds))
	}
	row("rate", "%.0f/s", v.Rate)
	row("runs on", "%s", topicWord(v.Host))
	row("pid", "%s", pidWord(v.Pid))
	row("version", "%s", topicWord(v.Version))
	row("database", "%s", topicWord(v.Address))
	row("last heard", "%s", units.Stamp(v.Heard))
	if d := v.Disk; d != nil {
		row("disk", "%s of %s free at %s", units.Bytes(int64(d.Free)), units.Bytes(int64(d.Total)), units.Stamp(d.Time))
	}
	row("target", "%s", v.Target)
	row("topics", "%s", strings.Join(v.Topics, ", "))
	row("log", "%s", v.Log)
	row("chain", "%s", v.Chain)
	row("session", "%s", v.Session)
	row("worker", "%d", v.Worker)
	row("created", "%s", units.Stamp(v.Created))
	row("updated", "%s", units.Stamp(v.Updated))
	if e := v.LastError; e != nil {
		row("last error", "%s at %s (%s): %s", e.Class, units.Count(e.Seq), units.Stamp(e.Time), e.Text)
	}
	if o := v.Order; o != nil {
		row("ordered", "%s increment %s%s, not carried out yet", o.Verb, units.Count(o.Seq), within(o.Limit))
	}
	if o := v.Outside; o != nil {
		row("outside the order", "increment %s, %s (%s)%s", units.Count(o.Seq), outsideWord(o.Outcome), units.Stamp(o.Time),
			behindColon(o.Text))
	}
	if j := v.Join; j != nil {
		row("joins from", "%s by DUMP %s", j.Target, j.Dump)
	}
	width := 0
	for _, r := range all {
		width = max(width, len(r[0])+2)
	}
	var b strings.Builder
	for _, r := range all {
		b.WriteString(wrapped(cmp.Or(r[1], "-"), fmt.Sprintf("%-*s", width, r[0]), strings.Repeat(" ", width), columns))
	}
	return b.String()
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
		case r.At.IsZero() || !r.Connected && !hurried(worker.Retry, &g): // an earlier broker does not say when it ordered
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
