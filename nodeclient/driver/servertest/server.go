// Package servertest runs private database servers for tests and for xmq bench: one process on a free port of
// 127.0.0.1, with its data in a folder below /tmp that is removed with it, as the user the server insists on. It does
// not import testing; the packages postgrestest, mysqltest and redistest are its faces for tests.
package servertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Password is that of every user who has one.
const Password = "p@ss/word of:xmq"

// escaped is Password as a URL writes it.
func escaped() string {
	return strings.NewReplacer("@", "%40", "/", "%2F", ":", "%3A", " ", "%20").Replace(Password)
}

// Patience is how long a server may take to start or to answer.
const Patience = 30 * time.Second

// Server is one server process and its folder. Methods are for one goroutine.
type Server struct {
	// Launch makes the command that runs the server in the foreground; each Run asks anew.
	Launch func() *exec.Cmd
	// Answers is nil once the server serves.
	Answers func() error

	dir, addr string
	who       *syscall.Credential // nil: this process's own
	cmd       *exec.Cmd           // nil when it does not run
	log       *os.File
}

// New makes a folder and finds a free port. When this process is root the folder belongs to the user named by owner,
// and so do the processes of Command: database servers refuse to run as root. The caller sets Launch and Answers,
// calls Run, and in the end Stop, also after a failed test.
func New(name, owner string) (*Server, error) {
	dir, err := os.MkdirTemp("/tmp", "xmq-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.prepare(owner); err != nil {
		return nil, errors.Join(fmt.Errorf("a private %s server: %w", name, err), s.Stop())
	}
	return s, nil
}

func (s *Server) prepare(owner string) (err error) {
	if os.Geteuid() == 0 {
		u, err := user.Lookup(owner)
		if err != nil {
			return fmt.Errorf("it does not run as root, and there is no user to run it as (.ci/servers installs what is "+
				"missing): %w", err)
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := errors.Join(err1, err2, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return err
		}
	}
	if s.addr, err = FreeAddr(); err != nil {
		return err
	}
	s.log, err = os.Create(filepath.Join(s.dir, "log"))
	return err
}

// Command prepares a program of the server's user that dies with this process.
func (s *Server) Command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + s.dir,
		"TMPDIR=" + s.dir} // of its own: a MariaDB that starts removes what others have in the common one
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Run starts the server, anew after Kill or Halt, and waits until it answers. A server that ends at once, as one whose
// predecessor's children still hold its memory, is started again until Patience is over.
func (s *Server) Run() error {
	var last error
	for end := time.Now().Add(Patience); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if s.cmd == nil {
			cmd := s.Launch()
			cmd.Stdout, cmd.Stderr = s.log, s.log
			if err := cmd.Start(); err != nil {
				return err
			}
			s.cmd = cmd
		}
		if last = s.Answers(); last == nil {
			return nil
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WNOHANG, nil); pid == s.cmd.Process.Pid {
			_ = s.cmd.Process.Release() // it has been waited for
			s.cmd = nil
		}
	}
	text, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("the server does not answer: %w\n%s", last, text[max(0, len(text)-2000):])
}

// Kill is kill -9 of the server.
func (s *Server) Kill() error { return s.End(syscall.SIGKILL) }

// Signal sends a signal, such as SIGSTOP, after which the server takes connections and answers nothing, or SIGCONT.
func (s *Server) Signal(signal syscall.Signal) error { return s.cmd.Process.Signal(signal) }

// End sends a signal and waits until the server has ended.
func (s *Server) End(signal syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(signal)
	_ = s.cmd.Wait() // how it ends was asked for
	s.cmd = nil
	return err
}

// Stop kills the server and removes everything of it.
func (s *Server) Stop() error {
	err := s.Kill()
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	for range 100 { // its children may write their last files
		if rm := os.RemoveAll(s.dir); rm == nil {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Dir is the server's folder.
func (s *Server) Dir() string { return s.dir }

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// Port is the port alone.
func (s *Server) Port() string { return s.addr[len("127.0.0.1:"):] }

// Log is what the server has printed.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}
