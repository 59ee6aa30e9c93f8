package servertest

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// RedisDatabases is how many logical databases a Redis server has.
const RedisDatabases = 2000

// Redis is one Redis server; Password is that of its default user.
type Redis struct{ *Server }

// StartRedis makes a new server and waits until it answers; args are added to its command line. It keeps an
// append-only file that is synced at each write unless args say otherwise. The caller stops it, also after a failed
// test.
func StartRedis(args ...string) (*Redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("the program redis-server is missing: run .ci/servers as root, or install redis-server")
	}
	base, err := New("redis", "redis")
	if err != nil {
		return nil, err
	}
	s := &Redis{base}
	s.Launch = func() *exec.Cmd {
		return s.Command(path, append([]string{"--bind", "127.0.0.1", "--port", s.Port(), "--dir", s.Dir(), "--databases",
			fmt.Sprint(RedisDatabases),
			"--requirepass", Password, "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command",
			"yes"}, args...)...)
	}
	s.Answers = s.ping
	if err := s.Run(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// ping asks whether the server serves.
func (s *Redis) ping() error {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n*1\r\n$4\r\nPING\r\n", len(Password),
		Password); err != nil {
		return err
	}
	var answer []byte
	buf := make([]byte, 512)
	for !strings.Contains(string(answer), "PONG") {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("it says %q: %w", answer, err)
		}
		if answer = append(answer, buf[:n]...); strings.Contains(string(answer), "-") {
			return fmt.Errorf("it says %q", answer)
		}
	}
	return nil
}

// Halt stops the server, which saves what it has.
func (s *Redis) Halt() error { return s.End(syscall.SIGTERM) }

// URL is that of a logical database, whose restores load into the next one.
func (s *Redis) URL(db int) string { return RedisURL(s.Addr(), db) }

// RedisURL is that of a logical database after addr, such as a proxy's.
func RedisURL(addr string, db int) string {
	return fmt.Sprintf("redis://:%s@%s/%d?restore_db=%d", escaped(), addr, db, db+1)
}
