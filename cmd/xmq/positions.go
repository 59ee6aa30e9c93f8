package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/statedb"
	"xmq/worker"
)

func positionsCommand() *cli.Command {
	return &cli.Command{
		Name: "positions", Usage: "show the sync positions of all clients, those in trouble first",
		Flags: apiFlags(&cli.BoolFlag{Name: "watch", Usage: "show them again every second"},
			&cli.BoolFlag{Name: "wide", Usage: "all columns, however wide the terminal is"},
			&cli.BoolFlag{Name: "check", Usage: "end with 0 well, 1 warning, 2 critical, 3 cannot say"}),
		Action: goesOn("watch", func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			if !c.Bool("watch") {
				var p api.Positions
				if err := a.do(c.Context, "GET", "/v1/positions", nil, &p); err != nil {
					if c.Bool("check") {
						return cannotSay(c, err)
					}
					return err
				}
				if err := showPositions(c, p, size{columns: sizeOf(c.App.Writer).columns}); err != nil || !c.Bool("check") {
					return err
				}
				var alerts []api.AlertView
				if err := a.do(c.Context, "GET", "/v1/alerts", nil, &alerts); err != nil {
					return cannotSay(c, err)
				}
				return found(worstOf(p, alerts))
			}
			return watchPositions(c, a)
		}),
	}
}

// worstOf is the severity of the worst that the positions show, and of what is told of the clients there: a state may
// be worse than its name, a client that was stopped and forgotten, one whose database has been away for long.
func worstOf(p api.Positions, alerts []api.AlertView) (worst statedb.Severity) {
	if p.Input != nil {
		worst = statedb.Critical
	}
	for _, v := range slices.Concat(p.Clients, p.Newcomers) {
		if s := v.Condition.Is.Severity(); s.Rank() > worst.Rank() {
			worst = s
		}
	}
	for _, a := range alerts {
		if a.Client != "" && a.Standing() && a.Severity.Rank() > worst.Rank() {
			worst = a.Severity
		}
	}
	return worst
}

// watchPositions shows the positions every second until it is interrupted. While a broker that was there is away,
// what it said last stays, marked as old.
func watchPositions(c *cli.Context, a *apiClient) error {
	live := !c.Bool("json") && terminal(c.App.Writer)
	var p api.Positions
	var stale error
	for shown := false; ; {
		err := a.do(c.Context, "GET", "/v1/positions", nil, &p)
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		away := (*temporaryError)(nil)
		if err != nil && (!shown || !errors.As(err, &away)) {
			return err
		}
		if live {
			fmt.Fprint(raw(c.App.Writer), "\x1b[H\x1b[2J")
		}
		switch {
		case err == nil || live:
			if err != nil {
				fmt.Fprintf(c.App.Writer, "STALE, as of %s: %v\n", when(p.Broker.Time, time.Now()), err)
			}
			z := sizeOf(c.App.Writer)
			if live && err != nil {
				z.rows--
			}
			if err := showPositions(c, p, z); err != nil {
				return err
			}
		case stale == nil || stale.Error() != err.Error(): // said once
			fmt.Fprintf(c.App.ErrWriter, "xmq: %v\n", err)
		}
		shown, stale = true, err
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(time.Second):
		}
	}
}

func showPositions(c *cli.Context, p api.Positions, z size) error {
	if c.Bool("json") {
		return writeJSON(c, p)
	}
	_, err := io.WriteString(c.App.Writer, positionsScreen(p, z, c.Bool("wide")))
	return err
}

// From how many columns on a screen has more columns of the table, and all.
const (
	moreFrom = 120
	wideFrom = 160
)

// positionsScreen is the whole screen: at most z.rows lines, the worst clients first, and how many do not fit.
func positionsScreen(p api.Positions, z size, wide bool) string {
	head := headline(p.Broker, p.Input, p.Log, p.First, p.Head, z.columns)
	if p.Broker.Time.IsZero() {
		head += fmt.Sprintf("log %s  group %s  increments %d to %d\n", p.Log, p.Group, p.First, p.Head)
	}
	views := slices.Concat(p.Clients, p.Newcomers)
	if len(views) == 0 {
		return head + "\n" + wrapped(nobody(p.Input, p.Head), "", "  ", z.columns)
	}
	slices.SortStableFunc(views, worker.ByTrouble)
	wide = wide || z.columns >= wideFrom
	lines := strings.Split(strings.TrimSuffix(positionsTable(views, z.columns >= moreFrom || wide, wide), "\n"), "\n")
	text, left := head+"\n"+lines[0]+"\n", z.rows
	left -= strings.Count(text, "\n") + 1 // the last row is the prompt's, or the line that counts the rest
	for i, v := range views {
		one := strings.TrimRight(lines[i+1], " ") + "\n"
		if why := trouble(&v, p.Broker.Time); why != "" {
			one += wrapped(why, "  ", "  ", z.columns)
		}
		n := strings.Count(one, "\n")
		if z.rows > 0 && (n > left || i < len(views)-1 && n >= left) {
			return text + rest(views[i:])
		}
		text, left = text+one, left-n
	}
	return text
}

// nobody says what to do where no client is known.
func nobody(in *api.Input, head uint64) string {
	switch {
	case in != nil:
		return "no clients are known: what is said above of input comes first"
	case head == 0:
		return "no clients yet: start a node with `xmq node --id master --target sqlite:PATH`"
	}
	return fmt.Sprintf("no clients are known, and the log holds increments up to %s: start the nodes that had copies, on "+
		"their databases; xmq status says what else is wrong", units.Count(head))
}

// rest says what the clients are that have no room.
func rest(views []worker.View) string {
	following := 0
	for _, v := range views {
		if v.Condition.Is == worker.IsFollowing {
			following++
		}
	}
	return fmt.Sprintf("... and %s, %d of them following\n", units.Of(uint64(len(views)), "more client"), following)
}

// positionsTable is a line of names and one for each client.
func positionsTable(views []worker.View, more, wide bool) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	names := "CLIENT\tSTATE\tACKED\tLAG\tBEHIND\tRATE"
	if more {
		names += "\tSENT\tTARGET\tHOST"
	}
	if wide {
		names += "\tPID\tVERSION\tBASE\tROLE\tDATABASE"
	}
	fmt.Fprintln(w, names)
	for _, v := range views {
		acked := units.Count(v.Acked)
		if v.Lag == nil && (v.Acked == 0 || v.Condition.Is == worker.IsWaiting) {
			acked = "?"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.0f/s", short(v.ID, wide), stateWords(&v), acked, lagWords(v.Lag),
			behindWords(v.LagSeconds), v.Rate)
		if more {
			fmt.Fprintf(w, "\t%s\t%s\t%s", units.Count(v.Sent), topicWord(v.Target), topicWord(short(v.Host, wide)))
		}
		if wide {
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\t%s", pidWord(v.Pid), topicWord(v.Version), units.Count(v.Base), v.Role,
				topicWord(v.Address))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	return b.String()
}

// longID is how many characters of a name a narrow screen has.
const longID = 20

func short(id string, wide bool) string {
	if r := []rune(id); !wide && len(r) > longID {
		return string(r[:longID-1]) + "~"
	}
	return id
}

func pidWord(pid int) string {
	if pid == 0 {
		return "-"
	}
	return fmt.Sprint(pid)
}

// lagWords is a number that may not be known.
func lagWords(n *uint64) string {
	if n == nil {
		return "?"
	}
	return units.Count(*n)
}

func behindWords(s *float64) string {
	if s == nil {
		return "?"
	}
	if *s == 0 {
		return "0 s"
	}
	return units.Span(time.Duration(*s * float64(time.Second)))
}

// stateWords is what is so with a client.
func stateWords(v *worker.View) string {
	if v.Condition.Is == "" { // of a broker of an earlier build
		return string(v.State)
	}
	if l := v.Loading; l != nil && l.Of > 0 {
		return fmt.Sprintf("loading %d %%", min(100, 100*l.Bytes/l.Of))
	}
	return isWords(v.Condition.Is)
}

// trouble is one sentence on what keeps a client from following; empty when nothing does.
func trouble(v *worker.View, now time.Time) string {
	c := v.Condition
	since, ago := "", ""
	if !c.Since.IsZero() {
		since, ago = " since "+when(c.Since, now), units.Span(now.Sub(c.Since))
	}
	where := ""
	if v.Host != "" {
		where = " on " + v.Host
	}
	reason := ""
	if e := v.LastError; e != nil {
		if reason = plain(e.Text); e.Seq > 0 && !strings.HasPrefix(reason, "increment ") {
			reason = fmt.Sprintf("increment %s: %s", units.Count(e.Seq), reason)
		}
		reason = ": " + reason
	}
	switch c.Is {
	case "", worker.IsFollowing, worker.IsSnapshot:
		return ""
	case worker.IsLoading:
		return "from " + c.By + loadingWords(v.Loading, now)
	case worker.IsWaiting:
		if c.Text != "" { // it is not served
			reason = since + ": " + plain(c.Text)
		}
		return "for the snapshot of " + c.By + reason
	case worker.IsRetrying:
		next := ""
		if !c.Next.IsZero() && c.Next.After(now) {
			next = "; next try in " + units.Span(c.Next.Sub(now))
		}
		return "for " + ago + where + next + reason
	case worker.IsBlocked: // its node says since when
		return strings.TrimPrefix(where+": "+plain(c.Text), " ")
	case worker.IsStopped:
		return "it said goodbye at " + when(c.Since, now) + where
	case worker.IsGone:
		return "silent" + since + where + ", no goodbye" + reason
	case worker.IsRegistered:
		return "its node has not come yet"
	case worker.IsReturning:
		return "its node has not come back yet, since the broker was restarted"
	}
	return strings.TrimLeft(since+reason, " :")
}

func loadingWords(l *worker.Loading, now time.Time) string {
	if l == nil {
		return ""
	}
	text := ""
	if !l.Opened.IsZero() {
		text = fmt.Sprintf(", snapshot of %s at %s", when(l.Opened, now), units.Count(l.Seq))
	}
	text += ", " + units.Bytes(l.Bytes)
	if l.Of > 0 {
		text += " of about " + units.Bytes(l.Of)
	}
	if l.Rate > 0 {
		text += ", " + units.Bytes(int64(l.Rate)) + "/s"
	}
	if l.Left > 0 {
		text += ", " + units.Span(time.Duration(l.Left*float64(time.Second))) + " left"
	}
	return text
}
