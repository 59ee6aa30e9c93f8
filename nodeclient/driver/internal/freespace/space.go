// Package freespace says whether a snapshot fits on a disk of this machine, so that a restore that cannot end does
// not begin.
package freespace

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"xmq/broker/disk"
	"xmq/broker/units"
	"xmq/nodeclient"
)

// margin is what must stay free beside the snapshot, in bytes.
const margin = 64 << 20

// For reports that a restore of about size bytes does not fit on the file system of dir, beside all that is there. 0
// stands for a size that is not known. The error is Transient: room can be made.
func For(dir string, size int64) error {
	free, _, err := disk.Space(dir)
	if err != nil {
		return nodeclient.Transient(err)
	}
	if size > int64(free)-margin {
		return nodeclient.Transient(fmt.Errorf("a snapshot of about %s needs as much room beside the live data and %s to "+
			"spare, and %s has %s free: make room for %s more; the restore is tried again", units.Bytes(size),
			units.Bytes(margin), dir, units.Bytes(int64(free)), units.Bytes(size+margin-int64(free))))
	}
	return nil
}

// spooled is to which part of its size a snapshot may shrink when it is kept compressed.
const spooled = 8

// ForSpool is For the folder for temporary files, where a snapshot is kept compressed until all of it has come. It
// refuses only what cannot fit however well it is compressed.
func ForSpool(size int64) error { return For(os.TempDir(), size/spooled) }

// ServerFolder is dir, the data folder of the database server at host, when it can be seen from here: the server is on
// this machine, and its folder is where it says. Else it is empty.
func ServerFolder(host, dir string) string {
	ip := net.ParseIP(host)
	if host != "localhost" && !strings.HasPrefix(host, "/") && (ip == nil || !ip.IsLoopback()) || dir == "" {
		return ""
	}
	if _, _, err := disk.Space(dir); errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return dir
}

// ForServer is For the data folder of a database server. It answers nil when that cannot be seen from here.
func ForServer(host, dir string, size int64) error {
	if dir = ServerFolder(host, dir); dir == "" {
		return nil
	}
	return For(dir, size)
}

// Folder remembers the data folder of a database server. The zero Folder is not seen. It is for concurrent use.
type Folder struct{ dir atomic.Pointer[string] }

// Lies notes that the server at host has its data in dir.
func (f *Folder) Lies(host, dir string) {
	dir = ServerFolder(host, dir)
	f.dir.Store(&dir)
}

// errUnseen is the error of Space for a folder that cannot be seen from here.
var errUnseen = errors.New("the data folder of the server cannot be seen from here")

// Space is how much of its file system is free and how much there is, in bytes.
func (f *Folder) Space() (free, total uint64, err error) {
	dir := f.dir.Load()
	if dir == nil || *dir == "" {
		return 0, 0, errUnseen
	}
	return disk.Space(*dir)
}
