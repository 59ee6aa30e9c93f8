package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program in any language starts a broker on ports of the system's choice, learns them from the ready file, and
// ends it: the Python program of the operator's chapter. The file is whole or not there, is gone after a clean end,
// and what a killed process has left is not taken for the word of the next.
func TestAProgramStartsABrokerAndLearnsWhereItListens(t *testing.T) {
	chapter, err := os.ReadFile("../configs/OPERATING.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(chapter), "```python\n")
	require.True(t, found)
	program, _, _ := strings.Cut(rest, "```")
	path, err := binary()
	require.NoError(t, err)
	dir := t.TempDir()
	cmd := exec.Command("python3", "-c", program)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "XMQ="+path)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), `"seq":1`)
	require.NoFileExists(t, filepath.Join(dir, "ready.json"))

	s := newSite(t)
	file := filepath.Join(t.TempDir(), "ready.json")
	read := func() (r struct {
		Pid         int
		Version, ID string
		HTTP, NATS  string
	}) {
		eventually(t, func() error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			require.NoError(t, json.Unmarshal(b, &r), "%s", b)
			return nil
		})
		return r
	}
	b := s.broker("--ready-file", file)
	r := read()
	require.Equal(t, b.cmd.Process.Pid, r.Pid)
	require.Equal(t, "http://"+s.http, r.HTTP)
	require.Equal(t, "nats://"+s.nats, r.NATS)
	b.kill()
	require.FileExists(t, file)
	failed := s.start("broker", "broker", "--data", filepath.Join(s.dir, "nowhere"), "--create=false", "--nats-addr",
		s.nats, "--http-addr", s.http, "--ready-file", file)
	require.NotEqual(t, 0, failed.wait(t))
	require.NoFileExists(t, file, "it was that of the process before")

	s.broker()
	n := s.node("master", "", "--ready-file", file)
	r = read()
	require.Equal(t, fmt.Sprint("master ", n.cmd.Process.Pid), fmt.Sprint(r.ID, " ", r.Pid))
	require.True(t, s.client("master").Connected)
	require.Equal(t, 0, n.stop(t))
	require.NoFileExists(t, file)
}
