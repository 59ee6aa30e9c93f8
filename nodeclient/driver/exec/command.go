package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/external"
	"xmq/nodeclient/driver/internal/subprocess"
)

// The exit codes that mean something; every other one is a FAIL.
const (
	exitNotNow = 75 // EX_TEMPFAIL
	exitFatal  = 77 // no shell, interpreter or common tool ends with it by itself, as they do with 1 and 2
)

// call is what one run of a command is told.
type call struct {
	op      string
	pos     event.Position // zero: none
	record  *event.Record  // nil: none; its body is stdin
	outside bool           // it is applied outside the order
	stdin   io.Reader      // when there is no record
	stdout  io.Writer      // nil: thrown away
	long    bool           // it may take longer than the timeout
}

// errUnknown says that a command did not come to its end: whether it has done its work is not known.
var errUnknown = errors.New("the command was ended before it answered")

// run runs a command to its end. Its children are ended with it. nil: it exited with 0.
func (c *commands) run(ctx context.Context, command string, k call) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if limit := external.Limit(k.record, c.timeout); !k.long && limit != event.NoLimit {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("the command did not answer in %s", limit))
		defer cancel()
	}
	cmd, stderr := c.command(ctx, command, k)
	err := subprocess.Ended(k.op, stderr, cmd.Run())
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errUnknown, context.Cause(ctx))
	case exitCode(err) < 0:
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return err
}

// command prepares a run.
func (c *commands) command(ctx context.Context, command string, k call) (*exec.Cmd, *subprocess.Tail) {
	stderr := &subprocess.Tail{}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.dir, k.stdin, k.stdout, stderr
	cmd.Env = append(os.Environ(), "XMQ_OP="+k.op)
	if !k.pos.Zero() {
		cmd.Env = append(cmd.Env, "XMQ_SEQ="+strconv.FormatUint(k.pos.Seq, 10), "XMQ_LOG="+k.pos.Log.String(), "XMQ_CHAIN="+
			k.pos.Chain.String())
	}
	if r := k.record; r != nil {
		cmd.Stdin = bytes.NewReader(r.Body)
		cmd.Env = append(cmd.Env, "XMQ_TIME="+time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano), "XMQ_TOPIC="+r.Topic,
			"XMQ_CONTENT_TYPE="+r.ContentType, "XMQ_ORIGIN="+r.Origin, "XMQ_PRODUCER="+r.Producer, "XMQ_KEY="+r.Key)
	}
	if k.outside {
		cmd.Env = append(cmd.Env, "XMQ_OUTSIDE="+strconv.FormatUint(k.record.Seq, 10))
	}
	// A group of its own, so that what the shell has started ends with it, and an end with this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd, stderr
}

// A shell tells the signal that ended its child by 128 and the signal's number, of which Linux has 64.
const (
	firstSignal = 128 + 1
	lastSignal  = 128 + 64
)

// exitCode is the code with which a command ended by itself; -1 when it did not.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return -1
	}
	code := exit.ExitCode() // -1 for a signal
	if firstSignal <= code && code <= lastSignal {
		return -1
	}
	return code
}

// classify marks the error of an apply command; see the table in doc.go.
func classify(err error) error {
	if err == nil {
		return nil
	}
	switch exitCode(err) {
	case exitFatal:
		return nodeclient.Fatal(err)
	case exitNotNow:
		return nodeclient.Transient(err)
	case -1:
		return nodeclient.Unknown(err)
	}
	return err
}

// capped keeps what is written, up to limit bytes.
type capped struct {
	text  []byte
	limit int
}

func (c *capped) Write(b []byte) (int, error) {
	if len(c.text)+len(b) > c.limit {
		return 0, fmt.Errorf("it printed more than %d bytes", c.limit)
	}
	c.text = append(c.text, b...)
	return len(b), nil
}
