package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"xmq/broker/secret"
	"xmq/broker/server"
	"xmq/configs"
	"xmq/nodeclient/driver"
)

func brokerCommand() *cli.Command {
	defaults := configs.DefaultBroker()
	return &cli.Command{
		Name: "broker", Usage: "run the broker",
		Description: "Runs until it is told to stop (SIGINT, SIGTERM). SIGHUP reads the configuration again: log level, " +
			"hooks, retention, watch, alerts_keep, max_records and the limits of DUMPs and snapshots change, and a line says " +
			"what did and what needs a restart. Prints the line \"ready\" on stderr when all doors are open.",
		Flags: append(knobFlags(&defaults), readyFlag()),
		Action: func(c *cli.Context) error {
			signals := hangUps(c) // one that comes while the stores are opened is obeyed when they are
			cfg := configs.DefaultBroker()
			if err := loadKnobs(c, &cfg); err != nil {
				return err
			}
			log, level, err := configs.LeveledLogger(c.App.ErrWriter, cfg.LogLevel)
			if err != nil {
				return err
			}
			if err := notReady(c); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return fmt.Errorf("%w: %w", configs.ErrConfig, err)
			}
			if err := configs.CheckNATS(cfg.NATSURL); cfg.NATSURL != "" && err != nil {
				return fmt.Errorf("%w: nats_url: %w", configs.ErrConfig, err)
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(cfg.MemoryLimit / 4 * 3) // the rest is for what the runtime does not count, and for peaks
			}
			var accepts func([]byte) error
			if cfg.Accept != "" {
				if accepts, err = driver.Check(cfg.Accept); err != nil {
					return fmt.Errorf("%w: accept: %w", configs.ErrConfig, err)
				}
			}
			b, err := server.Open(cfg.Config, log)
			if err != nil && !configs.IsConfig(err) {
				log.Error("the broker does not start", "event", "stopped", "cause", secret.Text(err.Error()))
			}
			if err != nil {
				return err
			}
			if accepts == nil {
				accepts = func(body []byte) error {
					err := driver.UTF16(body) // no SQL database takes that, and others may
					if err != nil && !driver.OnlySQL(b.Kinds()) {
						err = nil
					}
					return err
				}
			}
			b.Accept(accepts)
			again := &reloading[configs.Broker]{now: cfg, fresh: configs.DefaultBroker, level: level, log: log,
				takes: server.Reloads,
				apply: func(cfg configs.Broker) error { return b.Reload(cfg.Config) }}
			again.serve(c, signals)
			remove := func() {}
			defer func() { remove() }()
			return b.Run(c.Context, func() {
				log.Info("doors are open", "http", "http://"+b.HTTPAddr(), "nats", b.NATSURL(), "log", b.LogID())
				if r, err := atReady(c, ready{HTTP: "http://" + b.HTTPAddr(), NATS: b.NATSURL()}); err != nil {
					log.Error("the ready file cannot be written", "err", err)
				} else {
					remove = r
				}
				fmt.Fprintln(c.App.ErrWriter, "ready")
			})
		},
	}
}
