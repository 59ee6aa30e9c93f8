package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
	"xmq/integration/shorttest"
	"xmq/nodeclient/driver/servertest"
	"xmq/statedb"
)

// The real binary, built once for all tests of real processes; mortal is the same with failpoints.
var (
	folder = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "xmq-test-") })
	binary = sync.OnceValues(func() (string, error) { return build("xmq") })
	mortal = sync.OnceValues(func() (string, error) { return build("mortal", "-tags", "failpoint") })
)

func build(name string, flags ...string) (string, error) {
	dir, err := folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	out, err := exec.Command("go", append(append([]string{"build", "-o", path}, flags...),
		"xmq/cmd/xmq")...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
}

func TestMain(m *testing.M) {
	// The rules of the repository, which need no process.
	shorttest.Only(
		"TestImports", "TestThePictureOfTheLayersIsTheTable", "TestPackageComments", "TestTopLevel",
		"TestNoSleepInTests", "TestEveryRowHasItsTest", "TestPagesNameRealTests", "TestEveryLinkLeadsSomewhere",
		"TestEveryBlockSaysWhatItIs", "TestReadmeIsShort", "TestContributingNamesRealThings",
		"TestEveryKnobStandsInItsList", "TestTheMakefileNamesRealTests", "TestLinesOfPagesAreShort",
		"TestNoMetaphorsOfHousesAndRoads", "TestEveryDriverStandsEverywhere",
	)
	shorttest.WithinProcess(withinProcess...)
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if dir, err := folder(); err == nil {
		_ = os.RemoveAll(dir) // a temporary folder
	}
	os.Exit(code)
}

// site is a folder with processes of the real binary in it, all ended with the test.
type site struct {
	t          *testing.T
	dir        string
	nats, http string
	brokerArgs []string
}

func newSite(t *testing.T, brokerArgs ...string) *site {
	return &site{t: t, dir: t.TempDir(), nats: freeAddr(t), http: freeAddr(t), brokerArgs: brokerArgs}
}

func freeAddr(t *testing.T) string {
	addr, err := servertest.FreeAddr()
	require.NoError(t, err)
	return addr
}

// process is one running child.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (s *site) start(name string, args ...string) *process {
	path, err := binary()
	require.NoError(s.t, err)
	return s.launch(path, nil, name, args...)
}

// launch starts the program at path with more environment.
func (s *site) launch(path string, env []string, name string, args ...string) *process {
	p := &process{name: name, cmd: exec.Command(path, args...), done: make(chan struct{}), log: &lockedBuffer{}}
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Stdout = s.dir, p.log, p.log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(s.t, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.done) }() // the exit code is read from ProcessState
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			text := p.log.String()
			s.t.Logf("--- %s\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop is a clean stop; it returns the exit code.
func (p *process) stop(t *testing.T) int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	return p.wait(t)
}

// wait returns the exit code, of a process that ends by itself. It gives up when the process has said nothing
// for long, or does nothing but speak.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	for said, round := -1, 0; ; round++ {
		select {
		case <-p.done:
			return p.cmd.ProcessState.ExitCode()
		case <-time.After(still):
		}
		if now := len(p.log.String()); now != said && round < 10 {
			said = now
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // what hangs shows its goroutines
		<-p.done
		t.Fatalf("%s has not ended, and has said nothing for %s:\n%s", p.name, still, p.log)
	}
}

func (s *site) broker(more ...string) *process {
	args := append([]string{"broker", "--data", filepath.Join(s.dir, "broker"), "--nats-addr", s.nats, "--http-addr",
		s.http, "--watch-ballast=false",
		"--watch-min-free", "0", "--watch-slow-sync", "0s"}, s.brokerArgs...)
	p := s.start("broker", append(args, more...)...)
	eventually(s.t, func() error {
		select {
		case <-p.done:
			s.t.Fatalf("the broker ended: %s", p.log)
		default:
		}
		if !strings.Contains(p.log.String(), "ready\n") {
			return fmt.Errorf("not ready: %s", p.log)
		}
		return nil
	})
	return p
}

func (s *site) path(id string) string { return filepath.Join(s.dir, id+".db") }

func (s *site) node(id, from string, more ...string) *process {
	args := []string{"node", "--id", id, "--broker", "nats://" + s.nats, "--target", "sqlite:" + s.path(id), "--tick",
		"200ms"}
	if from != "" {
		args = append(args, "--from", from)
	}
	return s.start(id, append(args, more...)...)
}

// tool runs a command of the binary to its end.
func (s *site) tool(stdin string, args ...string) (stdout, stderr string, code int) {
	path, err := binary()
	require.NoError(s.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // --wait 1m is one of them
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Dir = strings.NewReader(stdin), &out, &errs, s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "XMQ_API=http://" + s.http, "XMQ_BROKER=nats://" +
		s.nats}
	_ = cmd.Run() // the exit code tells
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ok is tool for commands that must succeed; it returns stdout.
func (s *site) ok(stdin string, args ...string) string {
	s.t.Helper()
	out, errs, code := s.tool(stdin, args...)
	require.Equal(s.t, 0, code, "xmq %v: %s", args, errs)
	return out
}

func (s *site) positions() (p api.Positions) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(s.ok("", "positions", "--json")), &p))
	return p
}

// level waits until all of these clients have acked the head.
func (s *site) level(ids ...string) api.Positions {
	s.t.Helper()
	var p api.Positions
	eventually(s.t, func() error {
		p = s.positions()
		for _, id := range ids {
			acked, known := uint64(0), false
			for _, v := range p.Clients {
				if v.ID == id && v.State != statedb.Loading {
					acked, known = v.Acked, true
				}
			}
			if !known || acked != p.Head {
				return fmt.Errorf("%s stands at %d (known: %v), the head is %d", id, acked, known, p.Head)
			}
		}
		return nil
	})
	return p
}
