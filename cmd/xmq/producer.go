package main

import (
	"fmt"
	"io"
	"net/url"

	"xmq/broker/api"

	"github.com/urfave/cli/v2"
)

func producerCommand() *cli.Command {
	return &cli.Command{
		Name: "producer", Usage: "decide about a producer",
		Subcommands: []*cli.Command{
			{Name: "reset", Usage: "forget a producer's highest number, after one that was far too high (needs --reason)",
				Description: "The next number of the producer may be any one. Those that are stored already stay known: one of " +
					"them is answered as a duplicate, or refused for another body (409 key_reused), so a producer that counts from " +
					"1 again takes another name.",
				ArgsUsage: "PRODUCER",
				Flags:     apiFlags(&cli.StringFlag{Name: "reason", Usage: "why; it will stand in the audit list"}),
				Action:    producerReset},
		},
	}
}

func producerReset(c *cli.Context) error {
	id, err := oneArg(c, "the producer's name")
	if err != nil {
		return err
	}
	if c.String("reason") == "" {
		return usage("xmq producer reset needs --reason: it will stand in the audit list")
	}
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var done api.ProducerReset
	req := api.Order{Reason: c.String("reason"), Caller: api.Caller{Via: operator()}}
	if err := a.do(c.Context, "POST", "/v1/producers/"+url.PathEscape(id)+"/reset", req, &done); err != nil {
		return err
	}
	return show(c, done, func(w io.Writer) {
		if done.Highest == nil {
			fmt.Fprintf(w, "%s: its next number may be any one; those that are stored stay known\n", id)
			return
		}
		fmt.Fprintf(w, "%s: its next number may be any one, the highest was %d; those that are stored stay known\n", id,
			*done.Highest)
	})
}
