package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/statedb"
)

func alertsCommand() *cli.Command {
	change := func(do, usageText string) *cli.Command {
		return &cli.Command{Name: do, Usage: usageText, ArgsUsage: "KEY", Flags: apiFlags(),
			Action: func(c *cli.Context) error {
				key, err := oneArg(c, "the alert's key")
				if err != nil {
					return err
				}
				a, err := newAPI(c)
				if err != nil {
					return err
				}
				var done map[string]string
				if err := a.do(c.Context, "POST", "/v1/alerts", map[string]string{"key": key, "do": do, "via": operator()},
					&done); err != nil {
					return err
				}
				return show(c, done, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", key, do) })
			}}
	}
	return &cli.Command{
		Name: "alerts", Usage: "what an operator must see, the worst first",
		Flags: apiFlags(&cli.BoolFlag{Name: "all", Usage: "show cleared alerts, too"},
			&cli.BoolFlag{Name: "check", Usage: "end with 0 well, 1 warning, 2 critical, 3 cannot say"}),
		Subcommands: []*cli.Command{change("ack", "note that somebody has seen it"), change("clear", "end it by hand")},
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			err = showAlerts(c, a)
			if looked := (*checked)(nil); c.Bool("check") && err != nil && !errors.As(err, &looked) {
				return cannotSay(c, err)
			}
			return err
		},
	}
}

func showAlerts(c *cli.Context, a *apiClient) error {
	var all []api.AlertView
	if err := a.do(c.Context, "GET", "/v1/alerts", nil, &all); err != nil {
		return err
	}
	shown, worst := []api.AlertView{}, statedb.Severity("")
	for _, x := range all {
		if x.Standing() || c.Bool("all") {
			shown = append(shown, x)
		}
		if x.Standing() && x.Severity.Rank() > worst.Rank() {
			worst = x.Severity
		}
	}
	var now api.LogInfo
	if !c.Bool("json") || c.Bool("check") {
		if err := a.do(c.Context, "GET", "/v1/log", nil, &now); err != nil {
			return err
		}
		if now.Input != nil {
			worst = statedb.Critical
		}
	}
	slices.SortStableFunc(shown, func(a, b api.AlertView) int {
		return cmp.Or(a.Cleared.Compare(b.Cleared), cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
			a.First.Compare(b.First))
	})
	columns := sizeOf(c.App.Writer).columns
	if c.Bool("json") {
		if err := writeJSON(c, shown); err != nil {
			return err
		}
	} else if _, err := io.WriteString(c.App.Writer,
		headline(now.Broker, now.Input, now.Log, now.First, now.Head, columns)+alertsScreen(shown, columns)); err != nil {
		return err
	}
	if c.Bool("check") {
		return found(worst)
	}
	return nil
}

func alertsScreen(shown []api.AlertView, columns int) string {
	if len(shown) == 0 {
		return "no alerts\n"
	}
	var b strings.Builder
	for _, x := range api.OneCause(shown) {
		x.Key = strings.Join(append([]string{x.Key}, x.Also...), " ")
		parts := []string{strings.ToUpper(string(x.Severity)), x.Key, "since " + x.First.Format("2006-01-02 15:04:05Z")}
		if x.Count > 1 {
			parts = append(parts, units.Count(x.Count)+" times")
		}
		if x.Acked {
			parts = append(parts, "seen")
		}
		if !x.Standing() {
			parts = append(parts, "cleared "+x.Cleared.Format("2006-01-02 15:04:05Z"))
		}
		b.WriteString(joined(columns, parts...))
		b.WriteString(wrapped(x.Text, "  ", "  ", columns))
	}
	return b.String()
}

func auditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "what operators have decided, the newest last",
		Flags: apiFlags(rangeFlags(50)...),
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			all := []api.AuditView{}
			if err := a.do(c.Context, "GET", "/v1/audit?"+rangeOf(c), nil, &all); err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(c, all)
			}
			makePlain(reflect.ValueOf(&all))
			_, err = io.WriteString(c.App.Writer, auditScreen(all, sizeOf(c.App.Writer).columns))
			return err
		},
	}
}

// auditScreen is a line for each decision, and below it who took it and why.
func auditScreen(all []api.AuditView, columns int) string {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	wide := columns >= moreFrom
	names := "NUMBER\tTIME\tDID\tCLIENT\tSEQUENCE"
	if wide {
		names += "\tALERT"
	}
	fmt.Fprintln(w, names)
	for _, x := range all {
		seq := "-"
		if x.Seq > 0 {
			seq = units.Count(x.Seq)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s", x.Number, units.Stamp(x.Time), x.Verb, short(topicWord(x.Client), wide), seq)
		if wide {
			fmt.Fprintf(w, "\t%s", topicWord(x.Alert))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		if line = strings.TrimRight(line, " "); utf8.RuneCountInString(line) > columns {
			line = strings.TrimSuffix(wrapped(line, "", "  ", columns), "\n")
		}
		b.WriteString(line + "\n")
		if i == 0 {
			continue
		}
		x := all[i-1]
		parts := []string{}
		for _, p := range []struct{ word, text string }{{"alert ", x.Alert}, {"by ", x.By}, {"who says it is ", x.Via},
			{"limit ", x.Limit}} {
			if p.text != "" && !(wide && p.text == x.Alert) {
				parts = append(parts, p.word+p.text)
			}
		}
		if x.From != 0 || x.To != 0 {
			parts = append(parts, fmt.Sprintf("from %s to %s", units.Count(x.From), units.Count(x.To)))
		}
		text := strings.Join(parts, ", ")
		if x.Reason != "" {
			text = strings.TrimPrefix(text+": "+x.Reason, ": ")
		}
		b.WriteString(wrapped(text, "  ", "  ", columns))
	}
	return b.String()
}

// rangeFlags say which part of a list is wanted.
func rangeFlags(limit int) []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "client", Usage: "`ID` of the only client to show"},
		&cli.StringFlag{Name: "since", Usage: "how long ago (2h), or a `TIME` such as 2026-11-30T21:00:00Z"},
		&cli.IntFlag{Name: "limit", Usage: "how many to show, the newest", Value: limit}}
}

func rangeOf(c *cli.Context) string {
	q := url.Values{"limit": {strconv.Itoa(c.Int("limit"))}}
	for _, name := range []string{"client", "since"} {
		if v := c.String(name); v != "" {
			q.Set(name, v)
		}
	}
	return q.Encode()
}
