// Package configs loads what a broker and a node are told: YAML files, environment variables and flags, in rising
// order of precedence, over the defaults. Every key has one name: "retention.max_bytes" in the file is
// XMQ_RETENTION_MAX_BYTES in the environment and --retention-max-bytes on the command line. What nobody knows is
// refused with the nearest known name; names of the original system are refused with ours.
//
// broker.example.yaml and node.example.yaml beside this file hold every key with its default, unit and meaning.
package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// ErrConfig is wrapped by every error of this package: exit code 78.
var ErrConfig = errors.New("configuration")

// MaxFile is the largest configuration file in bytes.
const MaxFile = 256 << 10

// Source is where values come from besides the defaults.
type Source struct {
	File string              // path of a YAML file; "" for none
	Env  []string            // as os.Environ gives it
	Flag map[string][]string // values given on the command line, by key ("retention.max_bytes")
}

// Load fills cfg, a pointer to a struct with yaml and doc tags that holds the defaults. The errors are one sentence
// each, wrap ErrConfig, and name the key.
func Load(cfg any, s Source) error {
	fields := Fields(cfg)
	if s.File != "" {
		if err := loadFile(cfg, fields, s.File); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrConfig, s.File, err)
		}
	}
	if err := loadEnv(fields, s.Env); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, f := range fields {
		if v, given := s.Flag[f.Key]; given {
			if err := f.Set(v); err != nil {
				return fmt.Errorf("%w: --%s: %w", ErrConfig, f.Flag(), err)
			}
		}
	}
	return nil
}

func loadFile(cfg any, fields []Field, path string) error {
	f, err := os.Open(path)
	if cause := new(fs.PathError); errors.As(err, &cause) {
		return cause.Err // the caller names the file
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return err
	}
	if len(b) > MaxFile {
		return fmt.Errorf("it is larger than %d bytes: is it a configuration file?", MaxFile)
	}
	if err := parse(b, fields); err != nil {
		return err
	}
	if secrets(fields) {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o004 != 0 {
			return fmt.Errorf("it holds a password and everybody on this machine can read it: chmod 600 it, or put the " +
				"password into the environment")
		}
	}
	return nil
}

// parse sets the fields a YAML file names. It takes one document, a map of keys or nothing.
func parse(b []byte, fields []Field) error {
	if bytes.HasPrefix(b, []byte("\xEF\xBB\xBF")) {
		return errors.New("it begins with a byte order mark: save it as plain UTF-8")
	}
	if err := shallow(string(b)); err != nil {
		return err
	}
	var doc yaml.MapSlice
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return plain(err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("it holds more than one document: leave out the line ---")
	}
	return setMap(doc, "", fields)
}

// plain is an error of the YAML library in one line, without the text of the file, which may hold a password.
func plain(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
		return fmt.Errorf("line %d: %s", y.GetToken().Position.Line, y.GetMessage())
	}
	first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return errors.New(first)
}

// setMap sets what stands under prefix. A group without keys is none.
func setMap(doc yaml.MapSlice, prefix string, fields []Field) error {
	for _, item := range doc {
		key := prefix + fmt.Sprint(item.Key)
		if isGroup(key, fields) {
			sub := yaml.MapSlice{}
			switch v := item.Value.(type) {
			case nil:
			case map[string]any:
				for _, k := range slices.Sorted(maps.Keys(v)) {
					sub = append(sub, yaml.MapItem{Key: k, Value: v[k]})
				}
			default:
				return fmt.Errorf("%s is a group of keys, not a value: write them indented below it", key)
			}
			if err := setMap(sub, key+".", fields); err != nil {
				return err
			}
			continue
		}
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Key == key })
		if i < 0 {
			return unknown(key, fields)
		}
		if err := fields[i].setYAML(item.Value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func isGroup(key string, fields []Field) bool {
	return slices.ContainsFunc(fields, func(f Field) bool { return strings.HasPrefix(f.Key, key+".") })
}

// unknown is the error for a key that does not exist.
func unknown(key string, fields []Field) error {
	if key == "door" {
		return errors.New("unknown key \"door\": every door has its own key (http_addr, nats_addr); there is no ZeroMQ door")
	}
	if now, old := formerly[strings.ToUpper(key)]; old {
		return fmt.Errorf("%q was the name in the original system, here it is %q", key, now)
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.Key)
	}
	best, near := Nearest(key, names)
	switch {
	case near:
		return fmt.Errorf("unknown key %q: did you mean %q?", key, best)
	case ours("XMQ_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))):
		return fmt.Errorf("unknown key %q: it belongs to the other role, the nearest one here is %q", key, best)
	}
	return fmt.Errorf("unknown key %q: the nearest one is %q; --help lists all", key, best)
}

// Nearest is the one of names that word resembles the most, and whether it may be meant.
func Nearest(word string, names []string) (best string, near bool) {
	distance := 1 << 30
	for _, name := range names {
		if d := edits(word, name); d < distance {
			best, distance = name, d
		}
	}
	return best, distance <= max(2, len(word)/3)
}

// formerly maps the names of the original system to ours (XD-26).
var formerly = map[string]string{
	"SLAVE_UNIQUE_ID": "id", "SLAVE_CONN_URI": "broker", "RUNNING_TYPE": "from", "DEST_DUMP_UID": "from",
	"SELF_INCR_SEQ": "at",
	"DB_CONN_STR":   "target", "DB_USERNAME": "target", "DB_PASSWORD": "target", "DUMP_FILE": "restore",
	"DUMP_PATH": "data",
	"LOG_FILE":  "log_level", "LOG_LEVEL": "log_level", "LOG_PATH": "log_level",
}

// elsewhere are the variables that others read than this package.
var elsewhere = []string{"XMQ_API", "XMQ_CONFIG", "XMQ_WEBHOOK_AUTHORIZATION", "XMQ_FAILPOINT"}

func loadEnv(fields []Field, env []string) error {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "XMQ_") || slices.Contains(elsewhere, name) {
			continue
		}
		i := slices.IndexFunc(fields, func(f Field) bool { return f.Env() == name })
		if i < 0 {
			if ours(name) {
				continue // of the other role
			}
			key := strings.ToLower(strings.TrimPrefix(name, "XMQ_"))
			return fmt.Errorf("environment variable %s: %w", name, unknown(key, fields))
		}
		if err := fields[i].Set([]string{value}); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

// ours reports whether name is a variable of any role.
func ours(name string) bool {
	for _, cfg := range []any{new(Broker), new(Node)} {
		if slices.ContainsFunc(Fields(cfg), func(f Field) bool { return f.Env() == name }) {
			return true
		}
	}
	return false
}

// edits is the Levenshtein distance of two keys.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
