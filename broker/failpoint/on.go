//go:build failpoint

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// plan is what the environment says, read once: the place, and how many hits of it are left.
type plan struct {
	name string
	left atomic.Int64
}

var told = read(os.Getenv("XMQ_FAILPOINT"))

func read(text string) *plan {
	p := &plan{}
	fields := strings.Split(text, ":")
	if len(fields) < 2 || fields[1] != "kill" {
		return p
	}
	p.name = fields[0]
	p.left.Store(1)
	if len(fields) > 2 {
		if n, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			p.left.Store(n)
		}
	}
	return p
}

// Hit passes the place name; it does not return when the plan says so.
func Hit(name string) {
	if name != told.name || told.left.Add(-1) != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it ends us
	select {}
}
