package segments

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/broker/disk/disktest"
	"xmq/increments"
	"xmq/increments/logtest"
)

var _ increments.Log = (*Log)(nil)

// suiteDisk is a logtest.Disk in a place.
type suiteDisk struct {
	place  disk.Place
	memory *disktest.Memory // nil: the place is a directory, on which no power can be cut
	fails  atomic.Bool
	log    *Log
}

func (d *suiteDisk) Open(t *testing.T) increments.Log {
	if d.log != nil {
		require.NoError(t, d.log.Close())
	}
	place := disktest.Hooked(d.place, func(op disktest.Op) error {
		if d.fails.Load() && op.Verb == disktest.Sync {
			return syscall.EIO
		}
		return nil
	})
	o := Options{MaxRecords: logtest.Span, Window: logtest.Window, RingBytes: 2000, OpenSegments: 2}
	l, err := Open(place, small(), o)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = Create(place, small(), o)
	}
	require.NoError(t, err)
	d.log = l
	return l
}

func (d *suiteDisk) Cut(t *testing.T, seed uint64) increments.Log {
	if d.memory == nil { // a kill of the process: what was written stays
		return d.Open(t)
	}
	d.memory = d.memory.Crash(rand.New(rand.NewPCG(seed, 1)))
	d.place, d.log = d.memory, nil
	return d.Open(t)
}

func (d *suiteDisk) Fail() { d.fails.Store(true) }

// The suite of all logs, on a directory and in memory.
func TestSuiteOfLogs(t *testing.T) {
	for name, place := range map[string]func(t *testing.T) *suiteDisk{
		"directory": func(t *testing.T) *suiteDisk { return &suiteDisk{place: disk.Dir(t.TempDir() + "/log")} },
		"memory": func(*testing.T) *suiteDisk {
			m := disktest.NewMemory()
			return &suiteDisk{place: m, memory: m}
		},
	} {
		t.Run(name, func(t *testing.T) {
			logtest.Run(t, func(t *testing.T) logtest.Disk {
				d := place(t)
				t.Cleanup(func() {
					if err := d.log.Close(); !d.fails.Load() {
						require.NoError(t, err)
					}
				})
				return d
			}, disk.ErrStopped)
		})
	}
}
