// Package files makes the files and folders of the drivers whose database is one: for their own user alone, and,
// where a DUMP replaces a database, with the mode and the owner of the one that was there.
package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Mode is the mode of a new file: its user's alone.
const Mode fs.FileMode = 0o600

// Open opens the database file at path for reading and writing and makes it when it is not there.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, Mode)
}

// Create makes a new file at path. What lies there already, a link too, is an error: others may write to the folder.
func Create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, Mode)
}

// Inherit gives the new database at path, a file or a folder with files, the mode and the owner of the one at old,
// which it is about to replace; it does nothing when there is none. Files in a folder get the folder's mode without
// the bits of a search. Only root can give a file to another user; where the system refuses the owner or the group,
// the new database stays ours, and nobody can read it who could not read the old one.
func Inherit(path, old string) error {
	info, err := os.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | Mode // we have to open it ourselves
		switch {
		case e.IsDir():
			mode |= 0o700
		case info.IsDir():
			mode &^= 0o111
		}
		return give(name, mode, info.Sys().(*syscall.Stat_t))
	})
}

// give changes the owner first: that takes bits away, and a mode must not meet a group it was not meant for.
func give(name string, mode fs.FileMode, to *syscall.Stat_t) error {
	err := os.Lchown(name, int(to.Uid), int(to.Gid))
	if errors.Is(err, fs.ErrPermission) {
		err = os.Lchown(name, -1, int(to.Gid))
	}
	if errors.Is(err, fs.ErrPermission) { // our own group gets no more than everybody has
		mode, err = mode&^0o070|mode&0o007<<3, nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
