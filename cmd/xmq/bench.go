package main

import (
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/integration/bench"
)

func benchCommand() *cli.Command {
	var names []string
	for _, s := range bench.Scenarios() {
		names = append(names, s.Name)
	}
	return &cli.Command{
		Name: "bench", Usage: "measure XMQ against its peers on this machine", ArgsUsage: "SCENARIO|all",
		Description: "Scenarios: " + strings.Join(names, ", ") +
			". Both sides run in turn; RATIO above 1 is better than the peer.\n" +
			"Without --peer a scenario runs against its first one, and all against every one. A peer that is not installed " +
			"is an error.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "peer", Usage: "`NAME` of the only peer"},
			&cli.IntFlag{Name: "rounds", Value: 5, Usage: "how often each side runs"},
			&cli.IntFlag{Name: "size", Usage: "`BYTES` of a body (default: the scenario's own)"},
			&cli.IntFlag{Name: "nodes", Usage: "how many nodes (default: the scenario's own)"},
			&cli.BoolFlag{Name: "tiny", Usage: "as small as possible: shows that it runs, and no speed"},
			&cli.BoolFlag{Name: "json", Usage: "one object a scenario and peer, in JSON"},
			&cli.StringFlag{Name: "cpuprofile", Usage: "write a profile of both sides' time to `FILE`"},
			&cli.StringFlag{Name: "memprofile", Usage: "write a profile of what was allocated to `FILE`"},
		},
		Action: func(c *cli.Context) error {
			name, err := oneArg(c, "a scenario or all")
			if err != nil {
				return err
			}
			if c.Int("rounds") < 1 || c.Int("size") < 0 || c.Int("nodes") < 0 {
				return usage("xmq bench: --rounds is at least 1, --size and --nodes are not negative")
			}
			runs, err := benchRuns(name, c.String("peer"))
			if err != nil {
				return usage("xmq bench: %v", err)
			}
			return profiled(c.String("cpuprofile"), c.String("memprofile"), func() error { return runBench(c, runs) })
		},
	}
}

// benchRun is a scenario with one of its peers, or with none.
type benchRun struct {
	scenario bench.Scenario
	peer     string
}

// benchRuns are the runs that a scenario's name and a peer stand for.
func benchRuns(name, peer string) (runs []benchRun, err error) {
	if name != "all" {
		s, err := bench.Find(name)
		if err == nil {
			err = s.Check(peer)
		}
		return []benchRun{{s, peer}}, err
	}
	for _, s := range bench.Scenarios() {
		peers := s.Peers()
		if len(peers) == 0 && peer == "" {
			peers = []string{""}
		}
		for _, p := range peers {
			if peer == "" || p == peer {
				runs = append(runs, benchRun{s, p})
			}
		}
	}
	if len(runs) == 0 {
		return nil, errors.New("no scenario has the peer " + peer)
	}
	return runs, nil
}

func runBench(c *cli.Context, runs []benchRun) error {
	var results []bench.Result
	for r := range slices.Values(runs) {
		result, err := r.scenario.Run(c.Context,
			bench.Params{Rounds: c.Int("rounds"), Peer: r.peer, Tiny: c.Bool("tiny"), Size: c.Int("size"), Nodes: c.Int("nodes"),
				Log: c.App.ErrWriter})
		if err != nil {
			return err
		}
		if c.Bool("json") {
			if err := bench.WriteJSON(c.App.Writer, result); err != nil {
				return err
			}
			continue
		}
		results = append(results, result)
	}
	if c.Bool("json") {
		return nil
	}
	return bench.WriteTable(c.App.Writer, results)
}

// profiled runs f and writes profiles of it to the files named, which "" leaves out.
func profiled(cpu, memory string, f func() error) (err error) {
	if cpu != "" {
		file, err2 := os.Create(cpu)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := f(); err != nil || memory == "" {
		return err
	}
	file, err := os.Create(memory)
	if err != nil {
		return err
	}
	runtime.GC() // what is still held is counted as of now
	return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close())
}
