package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/units"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "what happened: alerts, orders, clients, DUMPs, starts and stops, the newest last",
		Flags: apiFlags(append(rangeFlags(50),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on, showing what happens"})...),
		Action: goesOn("follow", func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			path, after := "/v1/events?"+rangeOf(c), uint64(0)
			for {
				all := []api.EventView{}
				if err := a.do(c.Context, "GET", path, nil, &all); err != nil {
					return err
				}
				if err := printEvents(c, all); err != nil || !c.Bool("follow") {
					return err
				}
				if n := len(all); n > 0 {
					after = all[n-1].Number
				}
				path = fmt.Sprintf("/v1/events?limit=1000&after=%d", after)
				if id := c.String("client"); id != "" {
					path += "&client=" + url.QueryEscape(id)
				}
				select {
				case <-c.Context.Done():
					return c.Context.Err()
				case <-time.After(time.Second):
				}
			}
		}),
	}
}

func printEvents(c *cli.Context, all []api.EventView) error {
	if c.Bool("json") && !c.Bool("follow") {
		return writeJSON(c, all)
	}
	for _, e := range all {
		if c.Bool("json") { // a line each
			if err := writeJSON(c, e); err != nil {
				return err
			}
			continue
		}
		if _, err := io.WriteString(c.App.Writer, eventLine(e, sizeOf(c.App.Writer).columns)); err != nil {
			return err
		}
	}
	return nil
}

// eventLine is one event: when, how bad, what, about whom; and the rest below it where the line is too short.
func eventLine(e api.EventView, columns int) string {
	parts := []string{string(e.Kind)}
	switch {
	case e.Alert != "":
		parts = []string{strings.ToUpper(string(e.Severity)), string(e.Kind), e.Alert}
	case e.Client != "":
		parts = append(parts, e.Client)
	}
	if e.Seq > 0 {
		parts = append(parts, "at "+units.Count(e.Seq))
	}
	text := strings.Join(parts, " ")
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	if e.By != "" {
		text += " (" + e.By + ")"
	}
	return wrapped(text, e.Time.UTC().Format("2006-01-02 15:04:05Z")+"  ", "  ", columns)
}
