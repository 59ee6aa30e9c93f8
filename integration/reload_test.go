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

// SIGHUP, as logrotate sends it, ends neither broker nor node: the configuration is read again, and a line says what changed and what
// needs a restart; one that cannot be read changes nothing.
func TestSIGHUPReloads(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "broker.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("log_level: info\n")
	b := s.broker("--config", file)
	n := s.node("master", "")
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
	write("log_level: debug\nretention:\n  max_age: 3h\n")
	hup(b, `changed=log_level "needs a restart"=retention.max_age`)
	write("workres: 3\n")
	hup(b, "cannot be read again: nothing has changed")
	s.ok("INSERT INTO a VALUES (1)\n", "publish")
	s.level("master")
}
