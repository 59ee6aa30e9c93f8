package main

import (
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"xmq/configs"
)

// knobFlags makes one flag for every knob of cfg, and --config.
func knobFlags(cfg any) []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Usage: "YAML `FILE` with any of these, with underscores",
		EnvVars: []string{"XMQ_CONFIG"}}}
	for _, f := range configs.Fields(cfg) {
		usage := f.Doc + " (default " + f.Value() + ")"
		if f.IsBool() {
			flags = append(flags, &cli.BoolFlag{Name: f.Flag(), Usage: usage, DisableDefaultText: true})
			continue
		}
		if f.IsList() {
			flags = append(flags, &cli.StringSliceFlag{Name: f.Flag(), Usage: usage})
			continue
		}
		flags = append(flags, &cli.StringFlag{Name: f.Flag(), Usage: usage})
	}
	return flags
}

// loadKnobs fills cfg from --config, the environment and the flags given.
func loadKnobs(c *cli.Context, cfg any) error {
	given := map[string][]string{}
	for _, f := range configs.Fields(cfg) {
		if !c.IsSet(f.Flag()) {
			continue
		}
		switch {
		case f.IsBool():
			given[f.Key] = []string{strconv.FormatBool(c.Bool(f.Flag()))}
		case f.IsList():
			given[f.Key] = c.StringSlice(f.Flag())
		default:
			given[f.Key] = []string{c.String(f.Flag())}
		}
	}
	return configs.Load(cfg, configs.Source{File: c.String("config"), Env: os.Environ(), Flag: given})
}
