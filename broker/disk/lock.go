package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrHeld is returned by LockDir when another process has the data directory: exit code 75, try later.
var ErrHeld = errors.New("the data directory is in use by another process")

// Lock is a held data directory.
type Lock struct{ f *os.File }

// LockDir takes the data directory at path, which must exist, by an exclusive lock on its file LOCK, and
// writes pid, host and time into it. The kernel frees it when the process ends, however it ends. ErrHeld:
// taken; the error says by whom. A link named LOCK is an error: it is not followed. It does not block.
func LockDir(path string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 256)) // who holds it is a courtesy
		return nil, fmt.Errorf("lock %s, held by %s: %w", f.Name(), strings.TrimSpace(string(holder)), ErrHeld)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	who := fmt.Sprintf("pid %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(who), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write into %s: %w", f.Name(), err)
	}
	return &Lock{f}, nil
}

// Close gives the directory up. The file stays.
func (l *Lock) Close() error { return l.f.Close() }
