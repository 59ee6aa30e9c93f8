package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// SIGHUP, as logrotate sends it, ends neither broker nor node: the configuration is read again, and a line says what
// changed and what needs a restart; one that cannot be read changes nothing.
func TestSIGHUPReloads(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "broker.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("log_level: info\n")
	b := s.broker("--config", file)
	nodes := filepath.Join(t.TempDir(), "node.yaml")
	writeNode := func(text string) { require.NoError(t, os.WriteFile(nodes, []byte(text), 0o600)) }
	writeNode("")
	n := s.node("master", "", "--config", nodes)
	hup := func(p *process, says string) {
		t.Helper()
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
		eventually(t, func() error {
			if !strings.Contains(p.log.String(), says) {
				return errors.New("it does not say: " + says)
			}
			return nil
		})
	}
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	s.level("master")
	hup(n, `changed="" "needs a restart"=""`)
	writeNode("apply_limit: 2m\nlog_level: debug\nwindow_records: 7\n")
	hup(n, `changed=apply_limit,log_level "needs a restart"=window_records`)
	writeNode("apply_limit: 2m\nbatch_records: -1\n")
	hup(n, "cannot be read again: nothing has changed")
	write("log_level: debug\nworkers: 2\nretention:\n  max_age: 3h\n")
	hup(b, `changed=retention.max_age,log_level "needs a restart"=workers`)
	write("workres: 3\n")
	hup(b, "cannot be read again: nothing has changed")
	write("watch:\n  every: -1s\n")
	hup(b, "watch.every is -1s: it must be longer than 0s")

	// What has changed is in force: a hook that was not there, and a node that has been stopped for too long.
	require.Equal(t, 0, n.stop(t))
	told := filepath.Join(t.TempDir(), "told")
	write("hooks:\n  command: [/bin/sh, -c, 'cat >> " + told + "']\nwatch:\n  stopped: 1ms\n")
	hup(b, "changed=retention.max_age,hooks.command,watch.stopped,log_level")
	eventually(t, func() error {
		text, err := os.ReadFile(told)
		if !strings.Contains(string(text), "stopped/master") {
			return errors.Join(errors.New("no hook is told of the node: "+string(text)), err)
		}
		return nil
	})
	write("")
	hup(b, "changed=hooks.command,watch.stopped")
	s.node("master", "")
	s.ok("INSERT INTO a VALUES (1)\n", "publish")
	s.level("master")

	// The open segment ends with what it holds, and retention frees it.
	write("max_records: 2\n")
	hup(b, `max_records=2 "open segment ends with"=2`)
	hup(b, `changed=max_records`)
	s.ok("INSERT INTO a VALUES (2)\n", "publish")
	s.level("master")
	eventually(t, func() error {
		if out := s.ok("", "log", "trim"); !strings.Contains(out, "1 segment") {
			return errors.New(out)
		}
		return nil
	})
	require.Contains(t, s.ok("", "log", "head"), "3")
}

// A SIGHUP that comes while a broker or node still reads its configuration ends neither, and is obeyed as soon as it
// runs: what was written meanwhile is in force.
func TestSIGHUPAtTheStart(t *testing.T) {
	s := newSite(t)
	begin := func(name string, args ...string) *process {
		file := filepath.Join(t.TempDir(), name+".yaml")
		require.NoError(t, syscall.Mkfifo(file, 0o600))
		p := s.start(name, append(args, "--config", file)...)
		reads, err := os.OpenFile(file, os.O_WRONLY, 0) // waits until the process has begun to read
		require.NoError(t, err)
		fresh := file + ".fresh"
		require.NoError(t, os.WriteFile(fresh, []byte("log_level: debug\n"), 0o600))
		require.NoError(t, os.Rename(fresh, file))
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
		_, err = reads.WriteString("log_level: info\n")
		require.NoError(t, errors.Join(err, reads.Close()))
		eventually(t, func() error {
			select {
			case <-p.done:
				t.Fatalf("the %s ended: %s %s", name, p.cmd.ProcessState, p.log)
			default:
			}
			if !strings.Contains(p.log.String(), `changed=log_level "needs a restart"=""`) {
				return errors.New("it has not obeyed: " + p.log.String())
			}
			return nil
		})
		return p
	}
	b := begin("broker", "broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http)
	n := begin("master", "node", "--id", "master", "--broker", "nats://"+s.nats, "--target", "sqlite:"+s.path("master"))
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	s.level("master")
	require.Equal(t, 0, n.stop(t))
	require.Equal(t, 0, b.stop(t))
}

// Broker and node go on, and stop in order, when nobody reads their log any more: a log collector that was ended, or
// Ctrl-C in a terminal where it runs in the same pipe.
func TestALogThatNobodyReads(t *testing.T) {
	s := newSite(t)
	path, err := binary()
	require.NoError(t, err)
	deaf := func(args ...string) *process {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		p := &process{cmd: exec.Command(path, args...), done: make(chan struct{}), log: &lockedBuffer{}}
		p.cmd.Dir, p.cmd.Stderr, p.cmd.Env = s.dir, w, []string{"HOME=" + s.dir}
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		require.NoError(t, errors.Join(r.Close(), p.cmd.Start(), w.Close()))
		go func() { _ = p.cmd.Wait(); close(p.done) }() // the exit code is read from ProcessState
		t.Cleanup(p.kill)
		return p
	}
	ready := filepath.Join(s.dir, "ready")
	b := deaf("broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr", s.http,
		"--log-level", "debug", "--ready-file", ready)
	eventually(t, func() error {
		select {
		case <-b.done:
			t.Fatalf("the broker ended: %s", b.cmd.ProcessState)
		default:
		}
		_, err := os.Stat(ready)
		return err
	})
	n := deaf("node", "--id", "master", "--broker", "nats://"+s.nats, "--target", "sqlite:"+s.path("master"),
		"--log-level", "debug")
	s.ok("CREATE TABLE a (n INTEGER)\n", "publish")
	s.level("master")
	require.Equal(t, 0, n.stop(t))
	require.EqualValues(t, "stopped", s.client("master").Condition.Is)
	require.Equal(t, 0, b.stop(t))
}
