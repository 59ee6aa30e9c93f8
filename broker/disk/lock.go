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

// ErrHeld is what a Held wraps: exit code 75, try later.
var ErrHeld = errors.New("in use by another process")

// Held says that another process has a lock.
type Held struct {
	Path   string // of the lock file
	Holder string // what that process wrote into it; "" when it has written nothing yet
}

func (h *Held) Error() string {
	if h.Holder == "" {
		return fmt.Sprintf("%s is %v", h.Path, ErrHeld)
	}
	return fmt.Sprintf("%s is %v, held by %s", h.Path, ErrHeld, h.Holder)
}

func (h *Held) Unwrap() error { return ErrHeld }

// Ending is how long a process that was killed may take to end: until then it holds its locks and its ports, for
// instance while the disk finishes an fsync of it.
const Ending = 5 * time.Second

// Outwait calls try again while it returns an error that is busy, for Ending at most, and returns its last result. It
// is for what the kernel frees when the process that had it has ended: who kills a process and starts it again at once
// need not wait by hand.
func Outwait(busy error, try func() error) error {
	for end := time.Now().Add(Ending); ; time.Sleep(20 * time.Millisecond) {
		if err := try(); !errors.Is(err, busy) || !time.Now().Before(end) {
			return err
		}
	}
}

// Lock is a lock that this process has.
type Lock struct{ f *os.File }

// LockFile takes the exclusive lock on the file at path, which it makes when it is not there, and writes holder into
// it, for whoever finds it taken. The kernel frees the lock when the process ends, however it ends. *Held: another
// process has it, and has not ended within Ending. A link at path is an error: it is not followed.
func LockFile(path, holder string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = Outwait(syscall.EWOULDBLOCK, func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		text, _ := io.ReadAll(io.LimitReader(f, 256)) // who holds it is a courtesy
		return nil, &Held{path, strings.TrimSpace(string(text))}
	}
	if err := f.Truncate(0); err == nil { // for people only: a full disk must not keep the holder from starting
		_, _ = f.WriteAt([]byte(holder+"\n"), 0)
	}
	return &Lock{f}, nil
}

// LockDir takes the data directory at path, which must exist, by the lock on its file LOCK. See LockFile.
func LockDir(path string) (*Lock, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	who := fmt.Sprintf("pid %d on %s since %s", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	lock, err := LockFile(filepath.Join(path, "LOCK"), who)
	if errors.Is(err, ErrHeld) {
		return nil, fmt.Errorf("lock the data directory: %w: stop that process, or name another directory (--data)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return lock, nil
}

// Close gives the lock up. The file stays.
func (l *Lock) Close() error { return l.f.Close() }
