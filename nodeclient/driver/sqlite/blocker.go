package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"xmq/nodeclient"
)

var (
	_ nodeclient.Blocked   = (*Database)(nil)
	_ nodeclient.Advancing = (*Database)(nil)
)

// Durable implements nodeclient.Advancing.
func (t *Database) Durable() uint64 { return t.patience.Durable() }

// Blocker implements nodeclient.Blocked. Of a file system whose device the kernel calls otherwise than the list of
// locks does, and of processes of another container, nothing can be seen.
func (t *Database) Blocker(context.Context) (string, error) { return t.lockHolder(), nil }

// What writers lock: in the shared memory of the write-ahead log one byte, in the database file itself the bytes of
// an exclusive lock, see SQLite's wal.c and os.h.
const (
	walWriteByte = 120
	pendingByte  = 0x40000000
	lockedBytes  = 2 + 510 // of which pendingByte is the first
)

// lockHolder names the other processes that hold a lock for which writes wait, as far as the kernel shows them; ""
// for none.
func (t *Database) lockHolder() string {
	var pids []int
	for _, one := range []struct {
		path        string
		first, last int64
	}{{t.path + "-shm", walWriteByte, walWriteByte}, {t.path, pendingByte, pendingByte + lockedBytes - 1}} {
		if found, err := holders(one.path, one.first, one.last); err == nil { // else it is not to be seen
			pids = append(pids, found...)
		}
	}
	if len(pids) == 0 {
		return ""
	}
	var all []string
	for _, pid := range pids {
		who := fmt.Sprintf("PID %d", pid)
		if name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); err == nil { // else it has ended
			who += " (" + strings.TrimSpace(string(name)) + ")"
		}
		all = append(all, who)
	}
	return "its lock is held by " + strings.Join(all, ", ")
}

// holders are the other processes with a write lock on one of these bytes of a file.
func holders(path string, first, last int64) (pids []int, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nil, err
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return nil, err
	}
	defer func() { _ = locks.Close() }() // it was read
	lines := bufio.NewScanner(locks)
	for lines.Scan() { // 1: POSIX  ADVISORY  WRITE 4711 fe:00:524 120 120
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[1] == "->" || f[3] != "WRITE" || f[5] != file {
			continue
		}
		pid, _ := strconv.Atoi(f[4])
		from, _ := strconv.ParseInt(f[6], 10, 64)
		to, err := strconv.ParseInt(f[7], 10, 64)
		if err != nil { // EOF
			to = last
		}
		if pid > 0 && pid != os.Getpid() && from <= last && to >= first {
			pids = append(pids, pid)
		}
	}
	return pids, lines.Err()
}
