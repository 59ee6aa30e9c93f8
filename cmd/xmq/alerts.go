package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"xmq/broker"
	"xmq/statedb"
)

func alertsCommand() *cli.Command {
	change := func(do, usageText string) *cli.Command {
		return &cli.Command{Name: do, Usage: usageText, ArgsUsage: "KEY", Flags: apiFlags(), Action: func(c *cli.Context) error {
			key, err := oneArg(c, "the alert's key")
			if err != nil {
				return err
			}
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			var done map[string]string
			if err := a.do(c.Context, "POST", "/v1/alerts", map[string]string{"key": key, "do": do, "via": operator()}, &done); err != nil {
				return err
			}
			return show(c, done, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", key, do) })
		}}
	}
	return &cli.Command{
		Name: "alerts", Usage: "what an operator must see",
		Flags:       apiFlags(&cli.BoolFlag{Name: "all", Usage: "cleared ones too"}),
		Subcommands: []*cli.Command{change("ack", "note that somebody has seen it"), change("clear", "end it by hand")},
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			var all, shown []statedb.Alert
			if err := a.do(c.Context, "GET", "/v1/alerts", nil, &all); err != nil {
				return err
			}
			shown = []statedb.Alert{}
			for _, x := range all {
				if x.Cleared == 0 || c.Bool("all") {
					shown = append(shown, x)
				}
			}
			var now broker.LogInfo
			if !c.Bool("json") {
				if err := a.do(c.Context, "GET", "/v1/log", nil, &now); err != nil {
					return err
				}
			}
			return show(c, shown, func(w io.Writer) {
				inputLine(w, now.Input)
				if len(shown) == 0 {
					fmt.Fprintln(w, "no alerts")
					return
				}
				fmt.Fprintln(w, "KEY\tSEVERITY\tSINCE\tCOUNT\tSEEN\tTEXT")
				for _, x := range shown {
					seen := map[bool]string{true: "yes", false: "no"}[x.Acked]
					if x.Cleared != 0 {
						seen = "cleared " + clock(x.Cleared)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%q\n", x.Key, x.Severity, clock(x.First), x.Count, seen, x.Text)
				}
			})
		},
	}
}

func auditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "what operators have decided", Flags: apiFlags(),
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			var all []statedb.Audit
			if err := a.do(c.Context, "GET", "/v1/audit", nil, &all); err != nil {
				return err
			}
			if all == nil {
				all = []statedb.Audit{}
			}
			return show(c, all, func(w io.Writer) {
				fmt.Fprintln(w, "NUMBER\tTIME\tBY\tVIA\tDID\tCLIENT\tSEQUENCE\tLIMIT\tREASON")
				for _, x := range all {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%q\n", x.Number, clock(x.Time), topicWord(x.By),
						topicWord(x.Via), x.Verb, x.Client, x.Seq, topicWord(x.Limit), x.Reason)
				}
			})
		},
	}
}
