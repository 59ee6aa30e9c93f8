package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"xmq/broker/server"
	"xmq/configs"
)

func initCommand() *cli.Command {
	defaults := configs.DefaultBroker()
	return &cli.Command{
		Name: "init", Usage: "make a new log and its state store in an empty data directory, for a broker that is told " +
			"create: false",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "`DIR` of the broker", Value: defaults.Data, EnvVars: []string{"XMQ_DATA"}},
			&cli.BoolFlag{Name: "json", Usage: "answer in JSON"},
		},
		Action: func(c *cli.Context) error {
			cfg := defaults.Config
			cfg.Data = c.String("data")
			log, err := configs.Logger(c.App.ErrWriter, "warn")
			if err != nil {
				return err
			}
			id, err := server.Init(cfg, log)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(cfg.Data)
			if err != nil {
				return err
			}
			return show(c, map[string]string{"log": id.String(), "data": dir}, func(w io.Writer) {
				fmt.Fprintf(w, "log %s is made in %s: start its broker with xmq broker --data %s\n", id, dir, dir)
			})
		},
	}
}
