package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/nodeclient/driver"
	"xmq/nodeclient/driver/sqltext"
)

// source is a part of what publish was given: a script, lines, or a file that is one increment. It is read twice: when
// all of the input is good, it is sent.
type source interface {
	// prove reads it and says how many increments it holds, and what is wrong with them.
	prove(pr *prover) (finding, error)
	send(ctx context.Context, p *publisher) error
	io.Closer
}

// prover is by what the input is judged before anything of it is sent.
type prover struct {
	limit   int                // largest increment in bytes
	dialect sqltext.Dialect    // of check and guard
	check   func([]byte) error // what nodes would refuse; nil: nobody knows
	guard   bool               // lines have to be whole statements
	lint    bool
	w       io.Writer // of warnings
	seen    map[string]bool
}

func (pr *prover) linter(name string) *linter {
	return &linter{w: pr.w, name: name, dialect: pr.dialect, seen: pr.seen}
}

// sources are what the command line names. The caller closes them.
func sources(c *cli.Context) ([]source, error) {
	var all []source
	add := func(s source, err error) error {
		if err == nil {
			all = append(all, s)
		}
		return err
	}
	err := func() error {
		asLines := c.Bool("lines")
		switch paths := c.Args().Slice(); {
		case c.String("sql") == "-":
			return add(newScript(c, "stdin"))
		case c.String("sql") != "":
			return add(newScript(c, c.String("sql")))
		case len(paths) == 0:
			in, err := spooled(c.App.Reader)
			return add(&lines{name: "stdin", in: in, exact: asLines}, err)
		default:
			for _, path := range paths {
				var err error
				switch {
				case asLines:
					var in *os.File
					in, err = os.Open(path)
					err = add(&lines{name: path, in: in, exact: true}, err)
				case strings.EqualFold(extension(path), ".sql"):
					err = add(newScript(c, path))
				default:
					_, err = os.Stat(path) // before anybody is asked
					err = add(file(path), err)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err != nil {
		return nil, errors.Join(err, closeAll(all))
	}
	return all, nil
}

func closeAll(all []source) (err error) {
	for _, s := range all {
		err = errors.Join(err, s.Close())
	}
	return err
}

func extension(path string) string {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[i:]
	}
	return ""
}

// lines are increments of a line each.
type lines struct {
	name  string // for people
	in    *os.File
	exact bool // as they are; otherwise a carriage return at the end of one is no part of it
}

func (l *lines) Close() error { return l.in.Close() }

// each calls f with one line after the other, which is borrowed until f returns.
func (l *lines) each(f func(n int, line []byte) error) error {
	in := bufio.NewScanner(io.NewSectionReader(l.in, 0, math.MaxInt64))
	in.Buffer(nil, maxLine)
	in.Split(exactLines)
	n := 1
	for ; in.Scan(); n++ {
		line := in.Bytes()
		if !l.exact {
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if err := f(n, line); err != nil {
			return err
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("line %d of %s is longer than %d bytes: an increment cannot be so large", n, l.name, maxLine)
	case err != nil:
		return &ioError{fmt.Errorf("%s: %w", l.name, err)}
	}
	return nil
}

func (l *lines) prove(pr *prover) (found finding, err error) {
	if err := readable(l.name, l.in); err != nil { // of which every other line would begin with half a character
		return found, err
	}
	lint, faults := pr.linter(""), []string{}
	err = l.each(func(n int, line []byte) error {
		place := fmt.Sprintf("line %d of %s", n, l.name)
		if len(line) == 0 || !l.exact && len(bytes.TrimSpace(line)) == 0 {
			faults = append(faults, place+" is empty: an increment needs a body")
			return nil
		}
		if pr.guard && !l.exact {
			if err := sqltext.Whole(pr.dialect, string(line)); err != nil {
				return fmt.Errorf("%s is no whole statement: %w; it looks like a script, so publish it with --sql, or send "+
					"its lines as they are with --lines; nothing was sent", place, err)
			}
		}
		found.Count++
		if fault := pr.judge(lint, place, line); fault != "" && len(faults) < maxFaults {
			faults = append(faults, fault)
		}
		return nil
	})
	if err == nil && len(faults) > 0 {
		err = wrong("", faults)
	}
	return found, err
}

func (l *lines) send(ctx context.Context, p *publisher) error {
	return l.each(func(_ int, line []byte) error { return p.add(ctx, line) })
}

// maxLine is the longest line in bytes; the broker's own limit is lower.
const maxLine = 16 << 20

// maxFaults is how many wrong lines are named.
const maxFaults = 100

// noText are the beginnings of files that hold a script, and are none themselves.
var noText = map[string]string{
	"PGDMP":            "a dump of pg_dump in a format of its own: pg_restore --file=SCRIPT.sql makes a script of it",
	"\x1f\x8b":         "compressed (gzip): unpack it first, gunzip -c FILE | xmq publish --sql -",
	"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it first, zstd -dc FILE | xmq publish --sql -",
	"PK\x03\x04":       "an archive (zip): unpack it first",
	"SQLite format 3":  "a database of SQLite: sqlite3 FILE .dump writes its script",
}

// readable refuses by its beginning what is no text, and text in UTF-16.
func readable(name string, in io.ReaderAt) error {
	begin := make([]byte, 64)
	n, err := in.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil // who reads all of it says so
	}
	for head, what := range noText {
		if bytes.HasPrefix(begin[:n], []byte(head)) {
			return fmt.Errorf("%s is %s; nothing was sent", name, what)
		}
	}
	if err := driver.UTF16(begin[:n]); err != nil {
		return fmt.Errorf("%s: %w; nothing was sent", name, err)
	}
	return nil
}

// exactLines splits at line feeds and changes nothing else.
func exactLines(data []byte, end bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// file is the path of a file that is one increment.
type file string

func (f file) Close() error { return nil }

func (f file) read() ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is empty: an increment needs a body", string(f))
	}
	return b, err
}

func (f file) prove(pr *prover) (finding, error) {
	b, err := f.read()
	if err != nil {
		return finding{}, err
	}
	if fault := pr.judge(pr.linter(""), string(f), b); fault != "" {
		err = wrong("", []string{fault})
	}
	return finding{Count: 1}, err
}

func (f file) send(ctx context.Context, p *publisher) error {
	b, err := f.read()
	if err != nil {
		return err
	}
	return p.add(ctx, b)
}

// judge says what is wrong with an increment that was given as it is; nothing when it may be sent.
func (pr *prover) judge(lint *linter, place string, body []byte) string {
	if pr.lint {
		lint.body(place, body)
	}
	var err error
	switch {
	case len(body) > pr.limit:
		err = fmt.Errorf("this increment has %d bytes, and the broker takes at most %d", len(body), pr.limit)
	case pr.check != nil:
		err = pr.check(body)
	}
	if err != nil {
		return place + ": " + err.Error()
	}
	return ""
}

// wrong is an input of which nothing was sent.
func wrong(name string, faults []string) error {
	if name != "" {
		name += ": "
	}
	return fmt.Errorf("%snothing was sent, nodes would refuse this:\n%s", name, strings.Join(faults, "\n"))
}
