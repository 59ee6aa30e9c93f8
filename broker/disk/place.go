package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Place is where databases lie by name: a directory or memory. Its methods are for concurrent use on
// different names.
type Place interface {
	// List returns the names of everything that lies here, sorted; nothing when the place does not exist.
	List() ([]string, error)
	// Open opens the files of one database. create makes the place and the database's directory; without
	// it a missing one is an error that is fs.ErrNotExist.
	Open(name string, create bool) (Files, error)
	// Look opens the files of an existing database for reading alone: nothing is changed through them.
	Look(name string) (Files, error)
	// Rename renames a closed database. When it returns nil the new name survives power loss.
	Rename(old, new string) error
	// Remove deletes a closed database and all its files.
	Remove(name string) error
	// SetAside copies one file of a database beside it and returns the copy's name for people. The same bytes are copied
	// once, however often it is called.
	SetAside(name, file string) (string, error)
	// Size is the number of bytes all files of a database take.
	Size(name string) (int64, error)
	// String names the place for people.
	String() string
}

// Files are the files of one database. SyncDir makes the names of files created so far durable.
type Files interface {
	storage.Storage
	SyncDir() error
}

// Dir is the directory at path as a Place. It need not exist yet. Local ext4 or XFS only, no NFS.
func Dir(path string) Place { return dir(path) }

type dir string

func (d dir) String() string          { return string(d) }
func (d dir) path(name string) string { return filepath.Join(string(d), name) }

func (d dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		if no := NoDirectory(string(d)); no != nil {
			return nil, no
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !IsLostFound(string(d), e) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// NoDirectory returns Damage when what lies at path can never be read as a directory: a file, or a link that leads
// nowhere. nil: it is one, or nothing lies there, or nobody can say.
func NoDirectory(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return &Damage{File: path, Offset: -1, What: "a file lies where a directory of the broker belongs: move it away"}
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return &Damage{File: path, Offset: -1, What: "a link leads to a place that is not there: is the disk mounted?"}
		}
	}
	return nil
}

// IsLostFound reports whether e, which lies in dir, is what a file system keeps at its root for itself: a directory of
// that name that is empty, or root's. Nobody else's data are in it.
func IsLostFound(dir string, e fs.DirEntry) bool {
	if e.Name() != "lost+found" || !e.IsDir() {
		return false
	}
	f, err := os.Open(filepath.Join(dir, e.Name()))
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

func (d dir) Open(name string, create bool) (Files, error) {
	path := d.path(name)
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("create database: %w", err)
		}
		if err := SyncDir(filepath.Dir(string(d))); err != nil {
			return nil, err
		}
	} else if err := isDatabase(path); err != nil {
		return nil, err
	}
	files, err := storage.OpenFile(path, false)
	if err != nil {
		return nil, named("open database", path, err)
	}
	return &dirFiles{files, path}, nil
}

func (d dir) Look(name string) (Files, error) {
	path := d.path(name)
	if err := isDatabase(path); err != nil {
		return nil, err
	}
	files, err := storage.OpenFile(path, true)
	if err != nil {
		return nil, named("open database for reading", path, err)
	}
	return &dirFiles{files, path}, nil
}

// named says what failed, and of which path unless err has said so. Damage says all of it.
func named(what, path string, err error) error {
	if IsDamage(err) {
		return err
	}
	if strings.Contains(err.Error(), path) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s %s: %w", what, path, err)
}

// isDatabase says fs.ErrNotExist when nothing lies at path, and Damage when that is no directory: no later try will
// find another.
func isDatabase(path string) error {
	info, err := os.Stat(path)
	if parent := filepath.Dir(path); errors.Is(err, syscall.ENOTDIR) {
		return cmp.Or(NoDirectory(parent), err)
	}
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if !info.IsDir() {
		return &Damage{File: path, Offset: -1, What: "a file lies where a directory of the broker belongs: move it away"}
	}
	return nil
}

func (d dir) Rename(old, new string) error {
	parent, err := os.Open(string(d)) // first: after the rename there may be no descriptor left for it
	if err != nil {
		return fmt.Errorf("rename database: %w", err)
	}
	if err = os.Rename(d.path(old), d.path(new)); err == nil {
		err = parent.Sync()
	}
	if err = errors.Join(err, parent.Close()); err != nil {
		return fmt.Errorf("rename database: %w", err)
	}
	return nil
}

func (d dir) Remove(name string) error {
	if err := os.RemoveAll(d.path(name)); err != nil {
		return fmt.Errorf("remove database: %w", err)
	}
	return SyncDir(string(d))
}

func (d dir) SetAside(name, file string) (string, error) {
	copied, err := setAside(filepath.Join(d.path(name), file), filepath.Join(d.path(name), "damaged-"+file))
	if err != nil {
		return "", fmt.Errorf("set damaged file aside: %w", err)
	}
	return copied, nil
}

// setAside copies the file at path to the name to beside it, with a number when other bytes have taken that name.
func setAside(path, to string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	name := to
	for n := 2; ; n++ {
		switch old, err := os.ReadFile(name); {
		case errors.Is(err, fs.ErrNotExist):
			return name, writeNew(name, b)
		case err != nil:
			return "", err
		case bytes.Equal(old, b):
			return name, nil
		}
		name = fmt.Sprintf("%s-%d", to, n)
	}
}

// writeNew writes a file that is not there, durably. After an error there is none: half a copy would be kept for a
// whole one.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func (d dir) Size(name string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(d.path(name), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // a compaction removed it meanwhile
			return nil
		}
		return err
	})
	return sum, err
}

type dirFiles struct {
	storage.Storage
	path string
}

func (f *dirFiles) SyncDir() error { return SyncDir(f.path) }

// SyncDir makes the names in a directory durable: creations, renames and removals done before it.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = d.Sync()
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}
