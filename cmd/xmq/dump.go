package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/secret"
	"xmq/broker/units"
	"xmq/configs"
	"xmq/dumpflow"
	"xmq/nodeclient"
)

func dumpCommand() *cli.Command {
	return &cli.Command{
		Name: "dump", Usage: "write a backup of a node's database, with its position, to a file",
		Description: "Load it with: xmq node --id ID --target URL --restore FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`NODE` whose database is wanted (required)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write; it must not exist without " +
				"--force (required)"},
			&cli.BoolFlag{Name: "force", Usage: "replace what has the name FILE, in one step; what a link leads to stays as " +
				"it is"},
			&cli.StringFlag{Name: "start", Usage: "only keys after this `KEY` (kv)"},
			&cli.StringFlag{Name: "end", Usage: "only keys up to and with this `KEY` (kv)"},
			&cli.Uint64Flag{Name: "limit", Usage: "at most so many keys (kv)"},
			&cli.StringFlag{Name: "broker", Usage: "`URL` of the broker's NATS server", Value: "nats://127.0.0.1:4222",
				EnvVars: []string{"XMQ_BROKER"}},
			&cli.StringFlag{Name: "group", Value: nodeclient.DefaultGroup, Usage: "the broker's group",
				EnvVars: []string{"XMQ_GROUP"}},
			&cli.BoolFlag{Name: "json", Usage: "answer in JSON"},
		},
		Action: func(c *cli.Context) error {
			if c.String("from") == "" || c.String("output") == "" {
				return usage("xmq dump needs a node and a file: xmq dump --from NODE --output FILE")
			}
			if err := configs.CheckNATS(c.String("broker")); err != nil {
				return usage("xmq dump: --broker: %v", err)
			}
			id := "backup-" + strings.ToLower(rand.Text()[:12])
			conn, err := bus.Dial(c.String("broker"), id)
			if err != nil {
				return usage("xmq dump: --broker: %v", err)
			}
			defer conn.Close()
			if !conn.Up() {
				if trouble := conn.Trouble(); trouble != nil && !bus.Refused(trouble) {
					return &temporaryError{fmt.Errorf("the broker's NATS server at %s cannot be used (%w): look at "+
						"--broker", secret.URL(c.String("broker")), trouble)}
				}
				return &temporaryError{fmt.Errorf("the broker at %s does not answer: is it running?",
					secret.URL(c.String("broker")))}
			}
			path, err := filepath.Abs(c.String("output"))
			if err != nil {
				return err
			}
			p := newProgress(c.App.ErrWriter)
			silence := time.AfterFunc(5*time.Second, func() {
				fmt.Fprintf(c.App.ErrWriter, "xmq: nothing of %s has come yet from the broker of group %s: still waiting\n",
					c.String("from"), c.String("group"))
			})
			m, err := nodeclient.Backup(c.Context, conn, c.String("group"), id, c.String("from"), path, c.Bool("force"), part(c),
				func(n int64) {
					silence.Stop()
					p.say("%d MiB", n>>20)
				}, func(err error) {
					silence.Stop()
					fmt.Fprintf(c.App.ErrWriter, "xmq: %s Still waiting.\n", sentence(err))
				})
			silence.Stop()
			p.end()
			if err != nil {
				return err
			}
			file, err := os.Stat(path)
			if err != nil {
				return &ioError{err}
			}
			return show(c, backedUp{m, time.Unix(0, m.Time).UTC(), file.Size()}, func(w io.Writer) {
				m.Target, m.Format = plain(m.Target), plain(m.Format)
				fmt.Fprintf(w, "%s: %s, packed from %s of %s (%s) at sequence %s of log %s, taken %s\n", path,
					units.Bytes(file.Size()),
					units.Bytes(m.Size), m.Target, m.Format, units.Count(m.Pos.Seq), m.Pos.Log, units.Stamp(time.Unix(0, m.Time)))
			})
		},
	}
}

// backedUp is a manifest as the outside reads it.
type backedUp struct {
	dumpflow.Manifest
	Time time.Time `json:"time"`
	File int64     `json:"file_bytes"` // size is that of the data, which the file holds packed
}

// part is the range the flags name; nil for all.
func part(c *cli.Context) *event.Range {
	if c.String("start") == "" && c.String("end") == "" && c.Uint64("limit") == 0 {
		return nil
	}
	return &event.Range{Start: []byte(c.String("start")), End: []byte(c.String("end")), Limit: c.Uint64("limit")}
}

// words is what requesters say of a DUMP, on one line.
func words(troubles []api.DumpTrouble) string {
	all := make([]string, len(troubles))
	for i, t := range troubles {
		all[i] = t.ID + ": " + strings.Join(strings.Fields(t.Text), " ")
	}
	return strings.Join(all, "; ")
}

func snapshotsCommand() *cli.Command {
	end := func(verb, usageText string) *cli.Command {
		return &cli.Command{Name: verb, Usage: usageText, ArgsUsage: "ID",
			Flags: apiFlags(&cli.StringFlag{Name: "reason", Usage: "why; it will stand in the audit list"}),
			Action: func(c *cli.Context) error {
				id, err := oneArg(c, "a dump's ID")
				if err != nil {
					return err
				}
				if _, err := event.ParseDumpID(id); err != nil {
					return usage("%v", err)
				}
				a, err := newAPI(c)
				if err != nil {
					return err
				}
				var done api.Ordered
				if err := a.do(c.Context, "POST", "/v1/dumps/"+id+"/"+verb,
					api.Order{Reason: c.String("reason"), Caller: api.Caller{Via: operator()}}, &done); err != nil {
					return err
				}
				return show(c, done, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", id, verb) })
			}}
	}
	return &cli.Command{
		Name: "snapshots", Usage: "DUMPs that run, and snapshots that are kept", Flags: apiFlags(),
		Subcommands: []*cli.Command{end("cancel", "give a running DUMP up"), end("drop", "remove a snapshot that is kept")},
		Action: func(c *cli.Context) error {
			a, err := newAPI(c)
			if err != nil {
				return err
			}
			var all []api.DumpView
			if err := a.do(c.Context, "GET", "/v1/dumps", nil, &all); err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(c, all)
			}
			makePlain(reflect.ValueOf(&all))
			_, err = io.WriteString(c.App.Writer, snapshotsScreen(all, time.Now(), sizeOf(c.App.Writer).columns))
			return err
		},
	}
}

// snapshotsScreen shows each DUMP: whose, for whom, how far, how old its data is, and what requesters say of it.
func snapshotsScreen(all []api.DumpView, now time.Time, columns int) string {
	if len(all) == 0 {
		return "no DUMP runs and no snapshot is kept\n"
	}
	var b strings.Builder
	for _, d := range all {
		opened := "not open yet"
		if d.Opened != nil {
			opened = fmt.Sprintf("of %s, %s old, at %s", when(*d.Opened, now), units.Span(now.Sub(*d.Opened)),
				units.Count(d.Seq))
		}
		b.WriteString(joined(columns, "DUMP "+d.ID.String(), "from "+d.Target,
			strings.Replace(d.State, "sealed", "complete", 1), opened))
		parts := []string{"for " + cmp.Or(strings.Join(d.Requesters, ", "), "nobody now"), units.Bytes(d.Bytes),
			"took " + units.Span(time.Duration(d.DurationMS)*time.Millisecond),
			fmt.Sprintf("increments waited %.1f ms for it", d.PauseMS)}
		b.WriteString(wrapped(strings.Join(parts, "; "), "  ", "  ", columns))
		for _, more := range []struct{ what, text string }{{"error: ", d.Error}, {"not loaded by ", words(d.NotLoaded)},
			{"left out by ", words(d.LeftOut)}} {
			if more.text != "" {
				b.WriteString(wrapped(more.what+more.text, "  ", "  ", columns))
			}
		}
	}
	return b.String()
}
