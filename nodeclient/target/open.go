// Package target is the shelf of target drivers: which of them a target URL names. The port they all implement is
// nodeclient.Target, and targettest is the suite they all pass.
package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"xmq/nodeclient"
	"xmq/nodeclient/target/file"
	"xmq/nodeclient/target/postgres"
	"xmq/nodeclient/target/sqlite"
)

// URLs are the forms of a target URL, for people.
const URLs = "sqlite:PATH, postgres://USER@HOST:PORT/DATABASE or file:PATH"

// ErrBusy is returned when another process works on the same database file.
var ErrBusy = errors.New("another node is running")

// Opened is an open target and what a node says of it.
type Opened struct {
	nodeclient.Target
	Driver    string // kind of database, as in the URL
	Stateless bool   // it cannot store a position: increments are applied at least once
}

// driver is one entry of the shelf.
type driver struct {
	scheme string
	// open opens the target; path is what stands behind the scheme, relative to the node's folder.
	open      func(ctx context.Context, url, path string) (nodeclient.Target, error)
	stateless bool
}

var drivers = []driver{
	{scheme: "sqlite", open: func(ctx context.Context, _, path string) (nodeclient.Target, error) {
		return claim(path, func() (nodeclient.Target, error) { return sqlite.Open(ctx, path, sqlite.Options{}) })
	}},
	{scheme: "file", open: func(_ context.Context, _, path string) (nodeclient.Target, error) {
		return claim(path, func() (nodeclient.Target, error) { return file.Open(path) })
	}},
	{scheme: "postgres", open: func(ctx context.Context, url, _ string) (nodeclient.Target, error) {
		return postgres.Open(ctx, url, postgres.Options{})
	}},
}

// synonyms are other spellings of a scheme.
var synonyms = map[string]string{"postgresql": "postgres"}

// Open opens the database a target URL names; relative paths begin at dir. It blocks as long as the database takes to answer
// once. Trouble that may pass is Transient or ErrBusy; any other error says that the URL or what it names is wrong.
func Open(ctx context.Context, url, dir string) (Opened, error) {
	scheme, rest, found := strings.Cut(url, ":")
	if !found || rest == "" {
		return Opened{}, fmt.Errorf("target %q is no database: write %s", url, URLs)
	}
	if s, ok := synonyms[scheme]; ok {
		scheme = s
	}
	path := rest
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	for _, d := range drivers {
		if d.scheme == scheme {
			t, err := d.open(ctx, url, path)
			return Opened{t, d.scheme, d.stateless}, wrongPath(err)
		}
	}
	return Opened{}, fmt.Errorf("there is no target driver %q in this version: use %s", scheme, URLs)
}

// wrongPath takes the mark of trouble that may pass from errors of a path that will stay wrong.
func wrongPath(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EISDIR) {
		return errors.New(err.Error())
	}
	return err
}

// claimed is a database file that belongs to this process.
type claimed struct {
	nodeclient.Target
	lock *os.File
}

// claim opens a database that is a file of this process alone, behind a lock on PATH.lock, which the kernel frees when the
// process ends: two nodes on one file would overtake each other, and the healthy one would lose its copy.
func claim(path string, open func() (nodeclient.Target, error)) (nodeclient.Target, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		return nil, fmt.Errorf("%w on %s: stop it or choose another file", ErrBusy, path)
	}
	t, err := open()
	if err != nil {
		_ = lock.Close() // the error of opening is the one to tell
		return nil, err
	}
	return &claimed{t, lock}, nil
}

// Close closes the database, then gives it up.
func (c *claimed) Close() error { return errors.Join(c.Target.Close(), c.lock.Close()) }
