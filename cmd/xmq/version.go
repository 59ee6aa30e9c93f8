package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"

	"github.com/urfave/cli/v2"

	"xmq/broker/event"
	"xmq/broker/version"
	"xmq/dumpflow"
	"xmq/statedb"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "this program's version and the formats it speaks",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "answer in JSON"}},
		Action: func(c *cli.Context) error {
			v := struct {
				Version string         `json:"version"`
				Go      string         `json:"go"`
				Formats map[string]int `json:"formats"`
			}{version.Version, runtime.Version(),
				map[string]int{"event": event.Version, "record": event.RecordVersion, "hello": event.HelloVersion,
					"chunk": dumpflow.ChunkVersion, "manifest": dumpflow.ManifestVersion, "client": statedb.ClientVersion}}
			return show(c, v, func(w io.Writer) {
				fmt.Fprintf(w, "xmq %s (%s)\n", v.Version, v.Go)
				for _, name := range slices.Sorted(maps.Keys(v.Formats)) {
					fmt.Fprintf(w, "format %s %d\n", name, v.Formats[name])
				}
			})
		},
	}
}
