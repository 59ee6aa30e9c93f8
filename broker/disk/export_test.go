package disk

import (
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Failstop gives files a Storage of their own, for tests that write what a DB cannot.
func Failstop(files Files) storage.Storage {
	return &failstop{Files: files, name: "test", latch: NewLatch(nil), meter: new(meter), limit: time.Minute,
		short: new(shortage)}
}
