package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker"
	"xmq/worker"
)

func positionsCommand() *cli.Command {
	return &cli.Command{
		Name: "positions", Usage: "show the sync positions of all clients",
		Flags: apiFlags(&cli.BoolFlag{Name: "watch", Usage: "show them again every second"}),
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			clear := ""
			if !c.Bool("json") && terminal(c.App.Writer) {
				clear = "\x1b[H\x1b[2J"
			}
			for shown := false; ; {
				err := printNow(c, a, clear)
				if c.Bool("watch") && c.Context.Err() != nil {
					return nil
				}
				away := (*temporaryError)(nil)
				if !c.Bool("watch") || err != nil && (!shown || !errors.As(err, &away)) {
					return err
				}
				if shown = true; err != nil { // a broker that was there comes back
					fmt.Fprintf(c.App.ErrWriter, "xmq: %v\n", err)
				}
				select {
				case <-c.Context.Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
}

// printNow asks for the positions once and prints them.
func printNow(c *cli.Context, a *api, clear string) error {
	var p broker.Positions
	if err := a.do(c.Context, "GET", "/v1/positions", nil, &p); err != nil {
		return err
	}
	if c.Bool("watch") {
		fmt.Fprint(raw(c.App.Writer), clear)
	}
	return show(c, p, func(w io.Writer) { printPositions(w, p) })
}

func printPositions(w io.Writer, p broker.Positions) {
	inputLine(w, p.Input)
	fmt.Fprintf(w, "log %s  group %s  increments %d to %d\n\n", p.Log, p.Group, p.First, p.Head)
	if len(p.Clients) == 0 {
		fmt.Fprintln(w, "no clients yet: start a node with `xmq node --id master --target sqlite:PATH`")
		return
	}
	fmt.Fprintln(w, "CLIENT\tROLE\tSTATE\tBASE\tSENT\tACKED\tLAG\tBEHIND\tRATE\tTARGET\tLAST ERROR")
	for _, v := range p.Clients {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%.0f/s\t%s\t%s\n", v.ID, v.Role, stateWords(v), v.Base, v.Sent, v.Acked, v.Lag,
			(time.Duration(v.LagSeconds * float64(time.Second))).Round(10*time.Millisecond), v.Rate, v.Target, lastError(v))
	}
}

func stateWords(v worker.View) string {
	switch {
	case !v.Connected:
		return string(v.State) + " (offline)"
	case v.LastError != nil && v.LastError.Class == "held":
		return string(v.State) + " (held)"
	}
	return string(v.State)
}

func lastError(v worker.View) string {
	if v.LastError == nil {
		return "-"
	}
	text := strings.Join(strings.Fields(v.LastError.Text), " ")
	if len(text) > 60 {
		text = strings.ToValidUTF8(text[:60], "") + "..."
	}
	if v.LastError.Seq == 0 { // it is about no increment
		return v.LastError.Class + ": " + text
	}
	return fmt.Sprintf("%d: %s", v.LastError.Seq, text)
}
