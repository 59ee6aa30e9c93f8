package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/event"
	"xmq/broker/version"
	"xmq/dumpflow"
	"xmq/statedb"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "the versions of this program and of the broker, and the formats this program speaks",
		Flags: apiFlags(),
		Action: func(c *cli.Context) error {
			v := struct {
				Version string         `json:"version"`
				Go      string         `json:"go"`
				Formats map[string]int `json:"formats"`
				Broker  *api.Header    `json:"broker"` // null: it did not answer
			}{version.Version, runtime.Version(),
				map[string]int{"event": event.Version, "record": event.RecordVersion, "hello": event.HelloVersion,
					"chunk": dumpflow.ChunkVersion, "manifest": dumpflow.ManifestVersion, "client": statedb.ClientVersion}, nil}
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			v.Broker, err = brokerOf(c.Context, a)
			return show(c, v, func(w io.Writer) {
				fmt.Fprintf(w, "xmq %s (%s)\n", v.Version, v.Go)
				for _, name := range slices.Sorted(maps.Keys(v.Formats)) {
					fmt.Fprintf(w, "format %s %d\n", name, v.Formats[name])
				}
				if err != nil {
					fmt.Fprintf(w, "broker unknown: %s\n", plain(err.Error()))
					return
				}
				fmt.Fprintf(w, "broker %s on %s, pid %d, at %s\n", plain(v.Broker.Version), plain(v.Broker.Host), v.Broker.Pid,
					a.base)
			})
		},
	}
}

// brokerTime is how long the broker is asked who it is.
const brokerTime = 2 * time.Second

// brokerOf asks the broker who it is.
func brokerOf(ctx context.Context, a *apiClient) (*api.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTime)
	defer cancel()
	var head struct{ Broker api.Header }
	err := a.do(ctx, "GET", "/v1/log", nil, &head)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the broker at %s has not answered within %s", a.name, brokerTime)
	}
	if err != nil {
		return nil, err
	}
	return &head.Broker, nil
}
