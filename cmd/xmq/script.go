package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/broker"
	"xmq/nodeclient/target"
	"xmq/nodeclient/target/sqltext"
)

// maxStatement is the longest statement or transaction of a script in bytes: more than dump programs make.
const maxStatement = 64 << 20

// maxIncrement is the largest max_increment that a broker can have.
const maxIncrement = 8 << 20

var dialects = map[string]sqltext.Dialect{"sqlite": sqltext.SQLite, "postgres": sqltext.PostgreSQL,
	"postgresql": sqltext.PostgreSQL,
	"mariadb":    sqltext.MariaDB, "mysql": sqltext.MariaDB}

// script is the input of publish --sql.
type script struct {
	name    string // for people
	in      io.ReadSeekCloser
	dialect sqltext.Dialect
	limit   int  // largest increment in bytes
	mysql   bool // of MySQL, not MariaDB
	leave   bool // statements about databases are left out
}

// splitter cuts it, each time anew.
func (s *script) splitter() *sqltext.Splitter {
	return &sqltext.Splitter{Dialect: s.dialect, MySQL: s.mysql, Limit: s.limit, Longest: maxStatement,
		LeaveOutDatabases: s.leave}
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
	s := script{name: "stdin", dialect: dialect, limit: c.Int("max-increment"), mysql: c.String("dialect") == "mysql"}
	switch out := c.String("leave-out"); out {
	case "":
	case "databases":
		s.leave = true
	default:
		return usage("--leave-out knows databases, not %q", out)
	}
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
	found, err := s.prove(check, lint)
	if err != nil {
		return err
	}
	p.done.Counts = found.Counts
	if c.Bool("check") {
		return show(c, found, func(w io.Writer) {
			sayFine(w, found.Count)
			tell(w, found.Counts)
		})
	}
	if _, err := s.in.Seek(0, io.SeekStart); err != nil {
		return &ioError{fmt.Errorf("%s cannot be read a second time: %w; give it on stdin with --sql -", s.name, err)}
	}
	if p.contentType == "" {
		p.contentType = "application/sql"
	}
	for increment, err := range s.splitter().Scripts(s.in) {
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := p.add(c.Context, []byte(increment.Text)); err != nil {
			return err
		}
	}
	return nil
}

// publishChecked sends lines of stdin, or files, when nodes of the dialect would take all of them. They are read twice.
func publishChecked(c *cli.Context, p *publisher) error {
	dialect, known := dialects[c.String("dialect")]
	if !known {
		return usage("--dialect is %s, not %q", target.Dialects, c.String("dialect"))
	}
	check, err := target.Check(c.String("dialect"))
	if err != nil {
		return err
	}
	all := func() inputs { return files(c.Args().Slice()) }
	if !c.Args().Present() {
		in, err := spooled(c.App.Reader)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // it was only read
		all = func() inputs {
			return lines(c.Context, io.NewSectionReader(in, 0, math.MaxInt64))
		}
	}
	limit := c.Int("max-increment")
	if limit == 0 {
		limit = limitOf(c, p.api)
	}
	lint := &linter{w: c.App.ErrWriter, dialect: dialect, seen: map[string]bool{}}
	count, faults := 0, []string{}
	for in, err := range all() {
		if err != nil {
			return err
		}
		count++
		if c.Bool("lint") {
			lint.body(in)
		}
		if len(in.body) > limit {
			err = fmt.Errorf("this increment has %d bytes, and the broker takes at most %d", len(in.body), limit)
		} else {
			err = check(in.body)
		}
		if err != nil {
			faults = append(faults, in.place+": "+err.Error())
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("nothing was sent, nodes would refuse this:\n%s", strings.Join(faults, "\n"))
	}
	if c.Bool("check") {
		return show(c, finding{Count: count}, func(w io.Writer) { sayFine(w, count) })
	}
	return p.send(c.Context, all())
}

// sayFine says that a check has found nothing.
func sayFine(w io.Writer, count int) {
	fmt.Fprintf(w, "%d increments: nodes take all of them, as far as can be seen without a database\n", count)
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
func (s *script) prove(check func([]byte) error, lint *linter) (found finding, err error) {
	var faults []string
	splitter := s.splitter()
	for increment, err := range splitter.Scripts(s.in) {
		if err != nil {
			faults = append(faults, err.Error())
			break
		}
		found.Count++
		if lint != nil {
			lint.look(increment)
		}
		if len(increment.Text) > s.limit {
			faults = append(faults, fmt.Sprintf("line %d: this increment has %d bytes, and the broker takes at most %d: "+
				"cut it, or raise "+
				"max_increment of the broker (up to %d)", increment.Line, len(increment.Text), s.limit, maxIncrement))
		} else if err := check([]byte(increment.Text)); err != nil {
			fault := placed(increment, err)
			if aboutDatabases.MatchString(increment.Text) {
				fault += "; --leave-out databases passes over it"
			}
			faults = append(faults, fault)
		}
	}
	found.Counts = splitter.Counts
	if len(faults) == 0 {
		return found, nil
	}
	return found, fmt.Errorf("%s: nothing was sent, nodes would refuse this:\n%s", s.name, strings.Join(faults, "\n"))
}

// finding is what a script holds.
type finding struct {
	Count int `json:"count"`
	sqltext.Counts
}

// tell says what became of statements that are no increments of their own.
func tell(w io.Writer, f sqltext.Counts) {
	if f.Settings > 0 {
		fmt.Fprintf(w, "%d statements about a session were left out, or stand before the increments for which they hold\n", f.Settings)
	}
	if f.Databases > 0 {
		fmt.Fprintf(w, "%d statements about databases were left out\n", f.Databases)
	}
	if f.Engines > 0 {
		fmt.Fprintf(w, "%d tables of MyISAM or Aria are made as tables of InnoDB\n", f.Engines)
	}
	if f.Cut > 0 {
		fmt.Fprintf(w, "%d statements were cut between rows\n", f.Cut)
	}
}

var lineOf = regexp.MustCompile(`^line (\d+): `)

var aboutDatabases = regexp.MustCompile(`(?i)^(USE|(CREATE|ALTER|DROP)\s+(DATABASE|SCHEMA))\b`)

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
		w.Line = script.Input(w.Line)
		l.warn(l.name, w)
	}
}

// body looks at an increment that was given as it is.
func (l *linter) body(in input) {
	for _, w := range sqltext.Lint(l.dialect, string(in.body)) {
		l.warn(in.place, w)
	}
}

func (l *linter) warn(place string, w sqltext.Warning) {
	if key := strings.ToUpper(w.What); !l.seen[key] {
		l.seen[key] = true
		fmt.Fprintf(l.w, "xmq: warning: %s, %v (said once; --lint=false for silence)\n", place, w)
	}
}
