package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/broker"
	"xmq/nodeclient/target"
	"xmq/nodeclient/target/sqltext"
)

// maxStatement is the longest statement or transaction of a script in bytes, whatever the broker takes.
const maxStatement = 8 << 20

var dialects = map[string]sqltext.Dialect{"sqlite": sqltext.SQLite, "postgres": sqltext.PostgreSQL,
	"postgresql": sqltext.PostgreSQL,
	"mariadb": sqltext.MariaDB, "mysql": sqltext.MariaDB}

// script is the input of publish --sql.
type script struct {
	name    string // for people
	in      io.ReadSeekCloser
	dialect sqltext.Dialect
	limit   int // largest increment in bytes
}

// publishSQL sends a script when nodes would take all of it. It is read twice.
func publishSQL(c *cli.Context, p *publisher) error {
	dialect, known := dialects[c.String("dialect")]
	if !known {
		return usage("--dialect is %s, not %q", target.Dialects, c.String("dialect"))
	}
	check, err := target.Check(c.String("dialect"))
	if err != nil {
		return err
	}
	s := script{name: "stdin", dialect: dialect, limit: c.Int("max-increment")}
	if path := c.String("sql"); path != "-" {
		s.name = path
		s.in, err = os.Open(path)
	} else {
		s.in, err = spooled(c.App.Reader)
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.in.Close() }() // it was only read
	if s.limit == 0 {
		s.limit = limitOf(c, p.api)
	}
	var lint *linter
	if c.Bool("lint") {
		lint = &linter{w: c.App.ErrWriter, name: s.name, dialect: dialect, seen: map[string]bool{}}
	}
	count, err := s.prove(check, lint)
	if err != nil {
		return err
	}
	if c.Bool("check") {
		return show(c, map[string]int{"count": count}, func(w io.Writer) {
			fmt.Fprintf(w, "%d increments: nodes take all of them, as far as can be seen without a database\n", count)
		})
	}
	if _, err := s.in.Seek(0, io.SeekStart); err != nil {
		return &ioError{fmt.Errorf("%s cannot be read a second time: %w; give it on stdin with --sql -", s.name, err)}
	}
	if p.contentType == "" {
		p.contentType = "application/sql"
	}
	for increment, err := range sqltext.Split(s.in, dialect, maxStatement) {
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := p.add(c.Context, []byte(increment.Text)); err != nil {
			return err
		}
	}
	return nil
}

// spooled keeps what can be read only once in a file without a name, which ends with it.
func spooled(in io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "xmq-sql-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := io.Copy(f, in); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// limitOf is the broker's max_increment; its default when the broker is not asked, or does not answer now.
func limitOf(c *cli.Context, a *api) int {
	var info broker.LogInfo
	if !c.Bool("check") && a.do(c.Context, "GET", "/v1/log", nil, &info) == nil && info.MaxIncrement > 0 {
		return info.MaxIncrement
	}
	return broker.Default().MaxIncrement
}

// prove reads the whole script, counts its increments and returns an error that names every line for which nodes
// would refuse
// one, or which cannot be cut.
func (s *script) prove(check func([]byte) error, lint *linter) (count int, err error) {
	var faults []string
	for increment, err := range sqltext.Split(s.in, s.dialect, maxStatement) {
		if err != nil {
			faults = append(faults, err.Error())
			break
		}
		count++
		if lint != nil {
			lint.look(increment)
		}
		if len(increment.Text) > s.limit {
			faults = append(faults, fmt.Sprintf("line %d: this increment has %d bytes, and the broker takes at most %d: " +
				"cut it, or raise "+
				"max_increment of the broker (up to %d)", increment.Line, len(increment.Text), s.limit, maxStatement))
		} else if err := check([]byte(increment.Text)); err != nil {
			faults = append(faults, placed(increment, err))
		}
	}
	if len(faults) == 0 {
		return count, nil
	}
	return count, fmt.Errorf("%s: nothing was sent, nodes would refuse this:\n%s", s.name, strings.Join(faults, "\n"))
}

var lineOf = regexp.MustCompile(`^line (\d+): `)

// placed is an error with the line of the input instead of that of the increment.
func placed(increment sqltext.Script, err error) string {
	text, line := err.Error(), increment.Line
	if m := lineOf.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = increment.Input(n)
		}
	}
	return fmt.Sprintf("line %d: %s", line, text)
}

// linter warns of each word once.
type linter struct {
	w       io.Writer
	name    string // of the input
	dialect sqltext.Dialect
	seen    map[string]bool
}

func (l *linter) look(script sqltext.Script) {
	for _, w := range sqltext.Lint(l.dialect, script.Text) {
		if key := strings.ToUpper(w.What); !l.seen[key] {
			l.seen[key] = true
			w.Line = script.Input(w.Line)
			fmt.Fprintf(l.w, "xmq: warning: %s, %v (said once; --lint=false for silence)\n", l.name, w)
		}
	}
}
