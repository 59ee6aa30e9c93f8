package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Space returns the bytes that are free for this process and the size of the file system that holds path.
func Space(path string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// Scarce reports whether input must be refused: less than 5 % or 256 MiB free, whichever is more.
func Scarce(free, total uint64) bool { return free < MinFree(total) }

// MinFree is how many bytes must stay free on a disk of total bytes when nobody says otherwise.
func MinFree(total uint64) uint64 { return max(total/20, 256<<20) }

// BallastSize is the space kept in reserve, in bytes: a full disk cannot even start a database, so this
// file is given up first.
const BallastSize = 64 << 20

// BallastFile is where the reserve of dir is.
func BallastFile(dir string) string { return filepath.Join(dir, "ballast") }

// HasBallast reports whether dir has its reserve.
func HasBallast(dir string) bool {
	info, err := os.Stat(BallastFile(dir))
	return err == nil && info.Size() == BallastSize
}

// AddBallast reserves space in dir; it does nothing when that is done already.
func AddBallast(dir string) error {
	if HasBallast(dir) {
		return nil
	}
	f, err := os.OpenFile(BallastFile(dir), os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	err = errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, BallastSize), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("reserve %d bytes: %w", BallastSize, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// DropBallast frees the reserve of dir.
func DropBallast(dir string) error {
	if err := os.Remove(BallastFile(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free reserved space: %w", err)
	}
	return nil
}
