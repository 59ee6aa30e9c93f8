package driver

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"xmq/nodeclient/driver/exec"
)

// Paths says where the relative paths of a node lie: in the folder in which it was started. Earlier builds took them
// under the folder of --data: what lies there, with nothing in the first place, is taken from there, and a warning
// names what to write instead.
type Paths struct {
	start string // in which the node was started
	data  string // of --data
	log   *slog.Logger
}

// PathsOf are the paths of a process that was started in the folder start, with --data in data.
func PathsOf(start, data string, log *slog.Logger) Paths {
	return Paths{start, under(start, data), log}
}

// File is path as an absolute one; key is the flag that gave it. "" is none.
func (p Paths) File(key, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	here, there := under(p.start, path), under(p.data, path)
	switch {
	case here == there:
	case !used(here) && used(there):
		p.log.Warn("relative paths lie where the node was started: nothing is there, and what earlier builds used, under "+
			"--data, is taken. "+
			"Write the absolute path", "key", key, "write", there)
		return there
	case used(here) && used(there) && !same(here, there):
		p.log.Warn("relative paths lie where the node was started: what has the same name under --data is not used", "key",
			key, "used", here, "not used", there)
	}
	return here
}

// Target is a target URL with an absolute path, if it names one, and the folder in which the commands of exec: run.
// What is no URL of a target stays as it is: Open says what is wrong with it.
func (p Paths) Target(target string) (absolute, dir string) {
	scheme, rest, _ := strings.Cut(target, ":")
	if scheme == "exec" {
		return target, p.commands(target)
	}
	for _, d := range drivers {
		if d.scheme != scheme || !d.local {
			continue
		}
		path, options := rest, "" // which only sqlite has
		if i := strings.IndexByte(rest, '?'); i >= 0 && scheme == "sqlite" {
			path, options = rest[:i], rest[i:]
		}
		if path != "" && !isURL(path) {
			target = scheme + ":" + p.File("target", path) + options
		}
	}
	return target, p.start
}

// commands is the folder in which the commands of an exec: target run. Any word of them may be a path: when nothing
// has the name of one where the node was started, and something has it under --data, they run there, as in earlier
// builds.
func (p Paths) commands(target string) string {
	old := ""
	for _, word := range exec.Words(target) {
		switch clean := filepath.Clean(word); {
		case p.start == p.data, filepath.IsAbs(word), clean == ".", clean == "..":
		case exists(under(p.start, word)):
			return p.start
		case old == "" && exists(under(p.data, word)):
			old = word
		}
	}
	if old == "" {
		return p.start
	}
	p.log.Warn("commands of exec: run where the node was started: what one of them names is not there, and they run "+
		"under --data, "+
		"as in earlier builds. Write the absolute path, or begin each command with cd",
		"key", "target", "names", old, "write", under(p.data, old))
	return p.data
}

// used reports whether there is a database at path, or was one: a node that is killed while it exchanges two of them
// may leave no more than the lock.
func used(path string) bool { return exists(path) || exists(path+".lock") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil // what cannot be reached cannot be used either
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// isURL reports whether a web address stands where a path belongs.
func isURL(path string) bool { return strings.Contains(path, "://") }
