package integration

import (
	"errors"
	"os"
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
