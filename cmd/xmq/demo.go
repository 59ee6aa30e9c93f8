package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/units"
	"xmq/cmd/xmq/shop"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "see the main job done: broker, master and followers on SQLite files, with kills in the middle",
		Description: "Starts a broker and its nodes as processes of their own on free ports of 127.0.0.1, feeds them SQL, " +
			"lets a node join\n" +
			"by DUMP in mid-stream, kills the broker and a node with SIGKILL, and compares all databases row by row with one\n" +
			"that never saw XMQ. Exit code 1 when they differ.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "increments", Usage: "how many changes are fed, at least 1000", Value: 20000},
			&cli.IntFlag{Name: "rate", Usage: "changes a second", Value: 1500},
			&cli.Uint64Flag{Name: "seed", Usage: "seed of the random SQL", Value: 1},
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` to work in, must not exist; default is a temporary one that is " +
				"removed"},
			&cli.BoolFlag{Name: "keep", Usage: "leave everything running at the end, until interrupted"},
		},
		Action: func(c *cli.Context) (err error) {
			if c.Int("increments") < 1000 || c.Int("rate") < 1 {
				return usage("--increments is at least 1000 and --rate at least 1")
			}
			dir := c.String("dir")
			if dir == "" {
				if dir, err = os.MkdirTemp("", "xmq-demo-"); err != nil {
					return &ioError{err}
				}
				defer func() {
					if err == nil || c.Context.Err() != nil {
						err = errors.Join(err, os.RemoveAll(dir))
					} else {
						err = fmt.Errorf("%w\nEverything is kept in %s", err, dir)
					}
				}()
			} else if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
				return usage("--dir %s exists already: name a folder that does not", dir)
			} else if err != nil {
				return err
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			d := &demo{out: c.App.Writer, dir: dir, total: c.Int("increments"), rate: c.Int("rate"), seed: c.Uint64("seed"),
				began: time.Now()}
			defer func() { err = errors.Join(err, d.stopAll()) }()
			ctx, cancel := context.WithTimeoutCause(c.Context, 5*time.Minute, errors.New("the demo took longer than 5 minutes"))
			defer cancel()
			if err := d.run(ctx); c.Context.Err() != nil {
				return c.Context.Err()
			} else if err != nil {
				return fmt.Errorf("%w\n%s", err, d.lastWords())
			}
			if c.Bool("keep") {
				d.say("left running until interrupted: %s/v1/positions, folder %s", d.api.base, dir)
				<-c.Context.Done()
			}
			return nil
		},
	}
}

// demo is one run.
type demo struct {
	out         io.Writer
	dir         string
	total, rate int
	seed        uint64
	began       time.Time
	api         *apiClient
	natsAddr    string
	httpAddr    string
	children    []*child
	fed         atomic.Int64
}

// child is a process of ours.
type child struct {
	name string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan error
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.2fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) error {
	broker, master, node1, node2, err := d.cast()
	if err != nil {
		return err
	}
	if err := d.start(ctx, broker); err != nil {
		return err
	}
	if err := d.ready(ctx); err != nil {
		return err
	}
	d.say("broker runs: HTTP door http://%s, NATS nats://%s, data in %s", d.httpAddr, d.natsAddr, d.dir)
	if err := errors.Join(d.start(ctx, master), d.start(ctx, node1)); err != nil {
		return err
	}
	d.say("master and node1 run on SQLite files; node1 joins by DUMP from master")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	feeding := make(chan error, 1)
	go func() {
		err := d.feed(ctx)
		if err != nil {
			cancel(err)
		}
		feeding <- err
	}()
	acts := []struct {
		at   int
		what string
		do   func() error
	}{
		{35, "node2 joins by DUMP from node1, in mid-stream", func() error { return d.start(ctx, node2) }},
		{55, "the broker is killed (SIGKILL) and started again", func() error { return d.restart(ctx, broker) }},
		{75, "node1 is killed (SIGKILL) and started again", func() error { return d.restart(ctx, node1) }},
	}
	for _, act := range acts {
		if err := d.reach(ctx, act.at); err != nil {
			return err
		}
		d.say("%s", act.what)
		if err := act.do(); err != nil {
			return err
		}
	}
	if err := <-feeding; err != nil {
		return err
	}
	d.say("%s are in the log; waiting until all nodes have applied them", units.Of(uint64(d.total), "increment"))
	return d.judge(ctx)
}

// cast chooses addresses and names the processes.
func (d *demo) cast() (broker, master, node1, node2 *child, err error) {
	if d.natsAddr, err = freeAddr(); err != nil {
		return
	}
	if d.httpAddr, err = freeAddr(); err != nil {
		return
	}
	d.api = &apiClient{base: "http://" + d.httpAddr, name: "http://" + d.httpAddr,
		http: &http.Client{Timeout: 20 * time.Second}}
	node := func(id string, more ...string) *child {
		return d.child(id, append([]string{"node", "--id", id, "--broker", "nats://" + d.natsAddr, "--target", "sqlite:" +
			d.database(id)}, more...)...)
	}
	broker = d.child("broker", "broker", "--data", filepath.Join(d.dir, "broker"), "--nats-addr", d.natsAddr,
		"--http-addr", d.httpAddr)
	return broker, node("master"), node("node1", "--from", "master"), node("node2", "--from", "node1"), nil
}

func (d *demo) database(id string) string { return filepath.Join(d.dir, id+".db") }

// freeAddr is an address on which nobody listens: below 32768, so that no connection of this machine gets its port
// while the broker is killed and started again.
func freeAddr() (addr string, err error) {
	for range 1000 {
		addr = fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(22_768))
		l, busy := net.Listen("tcp", addr)
		if busy == nil {
			return addr, l.Close()
		}
		err = busy
	}
	return "", &temporaryError{err}
}

func (d *demo) child(name string, args ...string) *child {
	c := &child{name: name, args: args, log: filepath.Join(d.dir, name+".log")}
	d.children = append(d.children, c)
	return c
}

// start runs a child with this very program. Its environment holds no settings of ours.
func (d *demo) start(ctx context.Context, c *child) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	self, err := os.Executable()
	if err != nil {
		return &ioError{err}
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return &ioError{err}
	}
	defer log.Close()
	c.cmd = exec.Command(self, c.args...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Dir, c.cmd.Env = log, log, d.dir,
		[]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	// Ctrl-C is for us: we stop them in order
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return &ioError{err}
	}
	c.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(c.cmd, c.done)
	return nil
}

// restart kills a child hard and starts it again.
func (d *demo) restart(ctx context.Context, c *child) error {
	if err := c.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.done
	return d.start(ctx, c)
}

// check reports a child that has ended by itself.
func (d *demo) check() error {
	for _, c := range d.children {
		if c.cmd == nil {
			continue
		}
		select {
		case err := <-c.done:
			c.done <- err
			return fmt.Errorf("%s has ended: %v", c.name, err)
		default:
		}
	}
	return nil
}

// until asks again and again until f is content.
func (d *demo) until(ctx context.Context, f func() bool) error {
	for !f() {
		if err := d.check(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (d *demo) ready(ctx context.Context) error {
	return d.until(ctx, func() bool { return d.api.do(ctx, "GET", "/readyz", nil, io.Discard) == nil })
}

func (d *demo) reach(ctx context.Context, percent int) error {
	return d.until(ctx, func() bool { return int(d.fed.Load()) >= d.total*percent/100 })
}

// feed publishes the stream through the HTTP door, at the rate, and applies it to a database that never sees XMQ.
func (d *demo) feed(ctx context.Context) error {
	reference, err := sql.Open("sqlite", "file:"+d.database("reference")+
		"?_pragma=foreign_keys(1)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		return err
	}
	defer reference.Close()
	p := &publisher{api: d.api, prefix: "demo", contentType: "application/sql", patience: time.Minute,
		progress: newProgress(io.Discard)}
	stream := shop.New(d.seed)
	const group = 50
	pace := time.NewTicker(time.Second * group / time.Duration(d.rate))
	defer pace.Stop()
	for n := 0; n < d.total; n += group {
		tx, err := reference.Begin()
		if err != nil {
			return err
		}
		for range min(group, d.total-n) {
			script := stream.Next()
			if err := p.add(ctx, []byte(script)); err != nil {
				return errors.Join(fmt.Errorf("publish: %w", err), tx.Rollback())
			}
			if _, err := tx.Exec(script); err != nil {
				return errors.Join(fmt.Errorf("the reference refuses %q: %w", script, err), tx.Rollback())
			}
		}
		if err := errors.Join(p.flush(ctx), tx.Commit()); err != nil {
			return err
		}
		d.fed.Store(int64(p.done.Count))
		select {
		case <-pace.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// judge waits until everybody is level and compares.
func (d *demo) judge(ctx context.Context) error {
	began := time.Now()
	var p api.Positions
	if err := d.until(ctx, func() bool {
		p = api.Positions{}
		return d.api.do(ctx, "GET", "/v1/positions", nil, &p) == nil && level(p, 3)
	}); err != nil {
		return fmt.Errorf("the nodes do not catch up: %w", err)
	}
	caught := time.Since(began)
	var dumps []api.DumpView
	if err := d.api.do(ctx, "GET", "/v1/dumps", nil, &dumps); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%s\n", positionsScreen(p, size{columns: 100}, false))
	var equal int
	for _, id := range []string{"master", "node1", "node2"} {
		tables, rows, err := shop.Compare(d.database("reference"), d.database(id))
		if err != nil {
			return fmt.Errorf("VERDICT: %s differs from the reference: %w", id, err)
		}
		equal += rows
		d.say("%s equals the reference: %s, %s", id, units.Of(uint64(tables), "table"), units.Of(uint64(rows), "row"))
	}
	for _, v := range dumps {
		d.say("DUMP of %s for %v at sequence %d: target paused %.1f ms, %d bytes, %d ms in all", v.Target, v.Requesters,
			v.Seq, v.PauseMS, v.Bytes, v.DurationMS)
	}
	d.say("last lag: all nodes level %.2f s after the last increment", caught.Seconds())
	d.say("VERDICT: equal. %s, 3 nodes, 2 kills, %d rows compared, nothing lost, nothing doubled",
		units.Of(uint64(d.total), "increment"), equal)
	return nil
}

func level(p api.Positions, clients int) bool {
	for _, v := range p.Clients {
		if v.Acked != p.Head {
			return false
		}
	}
	return len(p.Clients) == clients
}

// stopAll ends what still runs, nodes first, and waits for it.
func (d *demo) stopAll() error {
	var errs []error
	for i := len(d.children) - 1; i >= 0; i-- {
		c := d.children[i]
		if c.cmd == nil {
			continue
		}
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-c.done:
		case <-time.After(10 * time.Second):
			errs = append(errs, fmt.Errorf("%s did not stop in 10 s and was killed", c.name), c.cmd.Process.Kill())
			<-c.done
		}
	}
	return errors.Join(errs...)
}

// lastWords are the ends of the children's logs.
func (d *demo) lastWords() string {
	var b bytes.Buffer
	for _, c := range d.children {
		text, err := os.ReadFile(c.log)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "--- last words of %s\n%s\n", c.name, text[max(0, len(text)-1000):])
	}
	return b.String()
}
