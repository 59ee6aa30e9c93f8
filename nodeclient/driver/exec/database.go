package exec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/external"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/internal/subprocess"
)

// DefaultTimeout is how long a command may run for one increment.
const DefaultTimeout = time.Minute

// Format is the name of the bytes a snapshot writes; doc.go draws them.
const Format = "exec-dump/1"

// commands are the hooks of one URL.
type commands struct {
	dir                         string // in which they run
	apply, dump, load, position string
	online                      bool
	timeout                     time.Duration
}

var (
	_ external.Hooks  = (*commands)(nil)
	_ external.Keeper = (*commands)(nil)
)

// Open reads an exec: URL; doc.go draws it. Commands run in the folder dir. What an unfinished load has left is
// removed. An error is a wrong URL, or Transient when a command could not do that.
func Open(ctx context.Context, rawURL, dir string) (*external.Database, error) {
	c, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	c.dir = dir
	o := external.Options{Driver: "exec", Format: snapstream.Format{Name: Format, Magic: "XMQEXECD", Version: 1},
		Dumps: c.dump != "", Loads: c.load != "", Online: c.online}
	if c.position != "" {
		o.Keeper = c
	}
	return external.New(ctx, c, o)
}

func parse(rawURL string) (*commands, error) {
	command, query, _ := strings.Cut(strings.TrimPrefix(rawURL, "exec:"), "?")
	c := &commands{timeout: DefaultTimeout}
	var err error
	if c.apply, err = url.PathUnescape(command); err != nil || c.apply == "" {
		return nil, errors.New("exec: the target URL has no command that can be read: write exec:COMMAND, with ? and % " +
			"percent-encoded")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("exec: what stands after ? in the target URL cannot be read: %w", err)
	}
	for key, v := range values {
		switch key {
		case "dump":
			c.dump = v[0]
		case "load":
			c.load = v[0]
		case "position":
			c.position = v[0]
		case "online":
			c.online, err = strconv.ParseBool(v[0])
		case "timeout":
			c.timeout, err = time.ParseDuration(v[0])
			if err == nil && c.timeout <= 0 {
				err = fmt.Errorf("it is %s", v[0])
			}
		default:
			err = errors.New("it is not known: use dump, load, position, online or timeout")
		}
		if err != nil {
			return nil, fmt.Errorf("exec: %s in the target URL: %w", key, err)
		}
	}
	return c, nil
}

// Apply implements external.Hooks.
func (c *commands) Apply(ctx context.Context, pos event.Position, r event.Record, outside bool) error {
	return classify(c.run(ctx, c.apply, call{op: "apply", pos: pos, record: &r, outside: outside}))
}

// Position implements external.Keeper.
func (c *commands) Position(ctx context.Context) (event.Position, error) {
	out := &capped{limit: 4096}
	if err := c.run(ctx, c.position, call{op: "position", stdout: out}); err != nil {
		return event.Position{}, nodeclient.Transient(err)
	}
	pos, err := parsePosition(string(out.text))
	if err != nil {
		return event.Position{}, nodeclient.Fatal(fmt.Errorf("the command printed %.80q: %w", out.text, err))
	}
	return pos, nil
}

// parsePosition reads "LOG SEQ CHAIN"; nothing is the zero position.
func parsePosition(text string) (pos event.Position, err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return pos, nil
	}
	if len(fields) != 3 {
		return pos, errors.New("a position is LOG SEQ CHAIN, or nothing")
	}
	if pos.Log, err = event.ParseLogID(fields[0]); err != nil {
		return event.Position{}, err
	}
	if pos.Seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return event.Position{}, err
	}
	pos.Chain, err = event.ParseChain(fields[2])
	return pos, err
}

// Seek implements external.Keeper.
func (c *commands) Seek(ctx context.Context, pos event.Position) error {
	if err := c.run(ctx, c.position, call{op: "seek", pos: pos}); err != nil {
		return nodeclient.Transient(err)
	}
	return nil
}

// Empty implements external.Hooks.
func (c *commands) Empty(ctx context.Context) (bool, error) {
	err := c.run(ctx, c.load, call{op: "empty"})
	if err != nil && exitCode(err) < 0 {
		return false, nodeclient.Transient(err)
	}
	return err == nil, nil
}

// Load implements external.Hooks.
func (c *commands) Load(ctx context.Context, s external.Step) error {
	return c.run(ctx, c.load, call{op: s.Op, pos: s.Pos, stdin: s.Body, long: s.Op != external.Discard})
}

// dumping is a dump command that runs.
type dumping struct {
	r     *bufio.Reader
	stop  context.CancelFunc
	ended func() error // waits for the command, once
}

// Dump implements external.Hooks. It starts the command and, when that is online, waits for its first byte.
func (c *commands) Dump(ctx context.Context, pos event.Position) (io.ReadCloser, error) {
	running, stop := context.WithCancel(context.Background())
	cmd, stderr := c.command(running, c.dump, call{op: "dump", pos: pos})
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		stop()
		return nil, nodeclient.Transient(err)
	}
	d := &dumping{r: bufio.NewReaderSize(out, snapstream.MaxFrame), stop: stop,
		ended: sync.OnceValue(func() error { return subprocess.Ended("dump", stderr, cmd.Wait()) })}
	if c.online {
		err = d.first(ctx)
	}
	if err != nil {
		return nil, nodeclient.Transient(errors.Join(err, d.Close()))
	}
	return d, nil
}

// first waits for the first byte, or for the end of a command that has none.
func (d *dumping) first(ctx context.Context) error {
	defer context.AfterFunc(ctx, d.stop)()
	_, err := d.r.Peek(1)
	if err == io.EOF {
		err = d.ended()
		d.r.Reset(strings.NewReader(""))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Read yields what the command writes; io.EOF only when it has ended well.
func (d *dumping) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	if err == io.EOF {
		if failed := d.ended(); failed != nil {
			return n, failed
		}
	}
	return n, err
}

// Close ends the command; how it ended was told by Read, or asked for.
func (d *dumping) Close() error {
	d.stop()
	_ = d.ended()
	return nil
}
