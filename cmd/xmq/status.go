package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "what is wrong, the worst first; ends with 0 well, 1 warning, 2 critical, 3 cannot say",
		Flags: apiFlags(),
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			var s api.Status
			if err := a.do(c.Context, "GET", "/v1/status", nil, &s); err != nil {
				return cannotSay(c, err)
			}
			if err := show(c, s, func(w io.Writer) { printStatus(w, s, sizeOf(c.App.Writer).columns) }); err != nil {
				return err
			}
			return found(s.Severity)
		},
	}
}

// found ends a command that looks with the exit code of the worst it has seen; a note is well.
func found(worst statedb.Severity) error {
	switch worst {
	case statedb.Critical:
		return &checked{checkCritical}
	case statedb.Warning:
		return &checked{checkWarning}
	}
	return nil
}

// cannotSay ends a command that looks when nobody answered: that is neither well nor wrong.
func cannotSay(c *cli.Context, err error) error {
	var u *usageError
	if errors.As(err, &u) || c.Context.Err() != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "xmq: %v\n", err)
	return &checked{checkUnknown}
}

// headline is what every screen begins with: that nothing is taken, then who answers, when, and how far the log is.
func headline(h api.Header, in *api.Input, log event.LogID, first, head uint64, columns int) string {
	text := ""
	if in != nil {
		text = wrapped(in.String(), "", "  ", columns)
	}
	if h.Time.IsZero() { // a broker of an earlier build
		return text
	}
	disk := ""
	if h.DiskTotal > 0 {
		disk = fmt.Sprintf("disk %s of %s free", units.Bytes(int64(h.DiskFree)), units.Bytes(int64(h.DiskTotal)))
	}
	holds := "is empty"
	if first <= head {
		holds = units.Count(first) + ".." + units.Count(head)
	}
	return text + joined(columns, h.Time.Format("15:04:05Z"),
		fmt.Sprintf("broker %s on %s, up %s", h.Version, h.Host, units.Span(h.Time.Sub(h.Started))),
		fmt.Sprintf("log %s %s", log, holds), fmt.Sprintf("in %.0f/s", h.Rate), disk)
}

func printStatus(w io.Writer, s api.Status, columns int) {
	fmt.Fprint(w, headline(s.Broker, s.Input, s.Log, s.First, s.Head, columns))
	for _, l := range troubles(s) {
		fmt.Fprint(w, wrapped(l.text, strings.ToUpper(string(l.severity))+" ", "  ", columns))
	}
	n, parts := 0, []string(nil)
	for _, is := range slices.SortedFunc(maps.Keys(s.Clients),
		func(a, b worker.Is) int { return strings.Compare(string(a), string(b)) }) {
		n += s.Clients[is]
		parts = append(parts, fmt.Sprintf("%d %s", s.Clients[is], isWords(is)))
	}
	switch {
	case n == 0 && slices.ContainsFunc(s.Alerts, func(a api.AlertView) bool { return a.Key == "strangers" }):
		fmt.Fprintln(w, "no clients yet") // the alert says which nodes have come
	case n == 0:
		fmt.Fprint(w, wrapped(nobody(s.Input, s.Head), "", "  ", columns))
	case n == 1:
		fmt.Fprintf(w, "1 client: %s\n", parts[0])
	default:
		fmt.Fprint(w, wrapped(strings.Join(parts, ", "), units.Of(uint64(n), "client")+": ", "  ", columns))
	}
}

// fault is one thing that is wrong, for people.
type fault struct {
	severity statedb.Severity
	text     string
}

// troubles are all alerts, and the clients of whose state none of them tells, the worst first.
func troubles(s api.Status) []fault {
	var all []fault
	told := map[string]bool{}
	for _, a := range s.Alerts {
		told[a.Key] = true
	}
	for _, a := range api.OneCause(s.Alerts) {
		if s.Input == nil || !strings.Contains(a.Text, s.Input.Text) { // the first line says it
			all = append(all, fault{a.Severity, a.Text})
		}
	}
	for _, v := range s.Wrong {
		if !told[tells[v.Condition.Is]+"/"+v.ID] {
			all = append(all, fault{v.Condition.Is.Severity(),
				strings.TrimSuffix(v.ID+": "+stateWords(&v)+", "+trouble(&v, s.Broker.Time), ", ")})
		}
	}
	slices.SortStableFunc(all, func(a, b fault) int { return b.severity.Rank() - a.severity.Rank() })
	return all
}

// tells is which alert says that a client is in a state; others about the same client do not say it.
var tells = map[worker.Is]string{worker.IsFailed: "fail", worker.IsFatal: "fatal", worker.IsNeedsDump: "refused",
	worker.IsHeld: "upgrade", worker.IsRetrying: "retry", worker.IsBlocked: "slow", worker.IsGone: "offline",
	worker.IsStopped: "stopped"}

func isWords(is worker.Is) string { return strings.ReplaceAll(string(is), "_", " ") }
