package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"syscall"

	"xmq/broker/disk"
	"xmq/broker/secret"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/exec"
	"xmq/nodeclient/driver/file"
	"xmq/nodeclient/driver/kv"
	"xmq/nodeclient/driver/mysql"
	"xmq/nodeclient/driver/postgres"
	"xmq/nodeclient/driver/redis"
	"xmq/nodeclient/driver/sqlite"
	"xmq/nodeclient/driver/webhook"
)

// URLs are the forms of a target URL, for people.
const URLs = "sqlite:PATH, postgres://USER@HOST:PORT/DATABASE, mysql://USER@HOST:PORT/DATABASE, " +
	"redis://USER@HOST:PORT/NUMBER, kv:PATH, file:PATH, webhook:URL or exec:COMMAND"

// Opened is an open target and what a node says of it.
type Opened struct {
	nodeclient.Database
	Driver    string // kind of database, as in the URL
	Stateless bool   // it cannot store a position: increments are applied at least once
}

// place is what a target URL names, and where.
type place struct {
	url  string // with its password
	path string // what stands after the scheme, as a path
	dir  string // where relative paths begin
	node string // its ID, for people
	// password of now, for a driver that connects again; nil: that of url
	password func() (string, error)
}

// driver is how a kind of database is opened, and the name that its URLs begin with.
type driver struct {
	scheme string
	local  bool // it is named by a path
	open   func(ctx context.Context, at place) (nodeclient.Database, error)
}

var drivers = []driver{
	{"sqlite", true, func(ctx context.Context, at place) (nodeclient.Database, error) {
		path, o, err := sqlite.ParsePath(at.path)
		if err != nil {
			return nil, err
		}
		return claim("sqlite", at.node, path, func() (nodeclient.Database, error) { return sqlite.Open(ctx, path, o) })
	}},
	{"file", true, func(_ context.Context, at place) (nodeclient.Database, error) {
		return claim("file", at.node, at.path, func() (nodeclient.Database, error) { return file.Open(at.path) })
	}},
	{"kv", true, func(_ context.Context, at place) (nodeclient.Database, error) {
		return claim("kv", at.node, at.path, func() (nodeclient.Database, error) { return kv.Open(at.path) })
	}},
	{"postgres", false, func(ctx context.Context, at place) (nodeclient.Database, error) {
		return postgres.Open(ctx, at.url, postgres.Options{Node: at.node, Password: at.password})
	}},
	{"mysql", false, func(ctx context.Context, at place) (nodeclient.Database, error) {
		return mysql.Open(ctx, at.url, mysql.Options{Node: at.node, Password: at.password})
	}},
	{"redis", false, func(ctx context.Context, at place) (nodeclient.Database, error) {
		return redis.Open(ctx, at.url, redis.Options{Node: at.node, Password: at.password})
	}},
	{"webhook", false, func(ctx context.Context, at place) (nodeclient.Database, error) {
		return webhook.Open(ctx, at.url, webhook.Options{Password: at.password})
	}},
	{"exec", false, func(ctx context.Context, at place) (nodeclient.Database, error) {
		return exec.Open(ctx, at.url, at.dir)
	}},
}

// synonyms are other spellings of a scheme.
var synonyms = map[string]string{"postgresql": "postgres", "mariadb": "mysql", "rediss": "redis"}

// Kind is the name of the driver of a target URL, as in Opened; empty for none.
func Kind(target string) string {
	scheme, _, _ := strings.Cut(target, ":")
	if s, ok := synonyms[scheme]; ok {
		scheme = s
	}
	for _, d := range drivers {
		if d.scheme == scheme {
			return scheme
		}
	}
	return ""
}

// slipped reports that an @, / or ? in the password of a target URL was not percent-encoded, so that the rest of the
// password would be read as part of a host, a database or a setting, and shown as such. What of these a driver reads as
// the password that it is stays allowed.
func slipped(kind, rest string) bool {
	rest, found := strings.CutPrefix(rest, "//")
	if _, known := passwords[kind]; !found || !known {
		return false
	}
	ends := "/?#"
	if kind == "postgres" { // as libpq reads it
		ends = "/"
	}
	server, path := rest, ""
	if i := strings.IndexAny(rest, ends); i >= 0 {
		server, path = rest[:i], rest[i:]
	}
	if kind == "postgres" {
		path, _, _ = strings.Cut(path, "?") // a setting may hold an @
	}
	at := strings.Count(server, "@")
	return at == 0 && strings.Contains(path, "@") || at > 1 && kind == "postgres"
}

// passwords are the variables that hold the password of a database whose URL has none.
var passwords = map[string]string{"postgres": "PGPASSWORD", "mysql": "MYSQL_PWD", "redis": "REDISCLI_AUTH"}

// Open opens the database a target URL names for a node, whose ID others see when they meet it there; relative paths
// begin at dir, where commands of exec: run, and passwordFile, when not "", holds the password of a URL that has
// none. It blocks as long as the database takes to answer once, and a few seconds more while another node uses it.
// Trouble that may pass is Transient, nodeclient.ErrTaken among it; any other error says that the URL or what it
// names is wrong.
func Open(ctx context.Context, node, target, passwordFile, dir string) (Opened, error) {
	scheme, rest, found := strings.Cut(target, ":")
	if !found || rest == "" {
		return Opened{}, fmt.Errorf("the target URL names no database: write %s", URLs)
	}
	if s, ok := synonyms[scheme]; ok {
		scheme = s
	}
	if slipped(scheme, rest) {
		return Opened{}, fmt.Errorf("%s: the target URL cannot be read: write %s://USER@HOST:PORT/DATABASE, the password "+
			"percent-encoded (@ is %%40, / is %%2F, ? is %%3F) or in %s", scheme, scheme, passwords[scheme])
	}
	var password func() (string, error)
	if passwordFile != "" {
		password = func() (string, error) { return readPassword(under(dir, passwordFile)) }
		with, err := withPassword(target, under(dir, passwordFile))
		if err != nil {
			return Opened{}, err
		}
		target = with
	}
	for _, d := range drivers {
		if d.scheme != scheme {
			continue
		}
		if path, _, _ := strings.Cut(rest, "?"); d.local && isURL(path) {
			return Opened{}, fmt.Errorf("a target %s:PATH names a path on this machine, and a URL stands there: write "+
				"the path, or use the driver of that URL", scheme)
		}
		t, err := d.open(ctx, place{target, under(dir, rest), dir, node, password})
		if err != nil {
			return Opened{}, secret.Hide(wrongPath(err), target)
		}
		forgets, is := t.(interface{ Stateless() bool })
		return Opened{t, scheme, is && forgets.Stateless()}, nil
	}
	return Opened{}, fmt.Errorf("there is no target driver %q in this version: use %s", scheme, URLs)
}

// readPassword is the first line of a file that only its user can read.
func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("target_password_file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("target_password_file: %w", err)
	}
	if info.Mode().Perm()&0o004 != 0 {
		return "", fmt.Errorf("target_password_file: everybody on this machine can read %s: chmod 600 it", path)
	}
	password, _, _ := strings.Cut(string(b), "\n")
	if password = strings.TrimSuffix(password, "\r"); password == "" {
		return "", fmt.Errorf("target_password_file: the first line of %s is empty", path)
	}
	return password, nil
}

// withPassword puts the first line of a file into a URL as its password.
func withPassword(text, path string) (string, error) {
	password, err := readPassword(path)
	if err != nil {
		return "", err
	}
	scheme, rest, _ := strings.Cut(text, "://") // a webhook's URL stands after another scheme
	user, host, found := strings.Cut(rest, "@")
	if slash := strings.IndexAny(rest, "/?#"); !found || strings.Contains(user, ":") || slash >= 0 && slash < len(user) {
		return "", errors.New("target_password_file: it needs a target URL with a user and without a password, " +
			"SCHEME://USER@HOST, and a file whose first line is the password")
	}
	return scheme + "://" + user + url.UserPassword("", password).String() + "@" + host, nil
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
	nodeclient.Database
	lock *disk.Lock
	path string // of the database
}

// claim opens a database that is a file of this process alone, under a lock on PATH.lock, which the kernel frees
// when the process ends: two nodes on one file would overtake each other, and the healthy one would lose its copy.
// The file holds the ID of the node, for whoever finds the lock taken.
func claim(driver, node, path string, open func() (nodeclient.Database, error)) (nodeclient.Database, error) {
	lock, err := disk.LockFile(path+".lock", node)
	var held *disk.Held
	if errors.As(err, &held) {
		return nil, nodeclient.Taken(driver, path, strings.TrimSpace("node "+held.Holder))
	}
	if err != nil {
		return nil, err
	}
	t, err := open()
	if err != nil {
		_ = lock.Close() // the error of opening is the one to tell
		return nil, err
	}
	c := &claimed{t, lock, path}
	if p, is := t.(nodeclient.Preparer); is {
		return struct {
			*claimed
			nodeclient.Preparer
		}{c, p}, nil
	}
	return c, nil
}

// SnapshotRange implements nodeclient.Ranger, as far as the database does.
func (c *claimed) SnapshotRange(ctx context.Context, start, end []byte, limit uint64) (nodeclient.Snapshot, error) {
	if r, ok := c.Database.(nodeclient.Ranger); ok {
		return r.SnapshotRange(ctx, start, end, limit)
	}
	return nil, nodeclient.ErrNoRanges
}

// Blocker implements nodeclient.Blocked, as far as the database does.
func (c *claimed) Blocker(ctx context.Context) (string, error) {
	if b, is := c.Database.(nodeclient.Blocked); is {
		return b.Blocker(ctx)
	}
	return "", nil
}

// Durable implements nodeclient.Advancing, as far as the database does.
func (c *claimed) Durable() uint64 {
	if a, is := c.Database.(nodeclient.Advancing); is {
		return a.Durable()
	}
	return 0
}

// Space implements nodeclient.Placed.
func (c *claimed) Space() (free, total uint64, err error) {
	return disk.Space(c.path)
}

// Close closes the database, then gives it up.
func (c *claimed) Close() error { return errors.Join(c.Database.Close(), c.lock.Close()) }
