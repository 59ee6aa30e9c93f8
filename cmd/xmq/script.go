package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/broker/units"
	"xmq/nodeclient/driver/sqltext"
)

// maxStatement is the longest statement or transaction of a script in bytes: more than dump programs make.
const maxStatement = 64 << 20

// maxIncrement is the largest max_increment that a broker can have.
const maxIncrement = 8 << 20

// script is an input that is cut into statements and transactions.
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

// newScript opens a script: a file, or stdin.
func newScript(c *cli.Context, name string) (*script, error) {
	s := &script{name: name}
	switch out := c.String("leave-out"); out {
	case "":
	case "databases":
		s.leave = true
	default:
		return nil, usage("--leave-out knows databases, not %q", out)
	}
	var err error
	if name == "stdin" && c.String("sql") == "-" {
		s.in, err = spooled(c.App.Reader)
	} else {
		s.in, err = os.Open(name)
	}
	return s, err
}

func (s *script) Close() error { return s.in.Close() }

// send cuts the script once more. It was read by prove.
func (s *script) send(ctx context.Context, p *publisher) error {
	if err := s.rewind(); err != nil {
		return err
	}
	contentType := p.contentType
	p.contentType = cmp.Or(contentType, "application/sql")
	defer func() { p.contentType = contentType }()
	for increment, err := range s.splitter().Scripts(s.in) {
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := p.add(ctx, []byte(increment.Text)); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) rewind() error {
	if _, err := s.in.Seek(0, io.SeekStart); err != nil {
		return &ioError{fmt.Errorf("%s cannot be read a second time: %w; give it on stdin with --sql -", s.name, err)}
	}
	return nil
}

// products reports whether the script has comments that only one of MariaDB and MySQL may execute.
func (s *script) products() (bool, error) {
	in := bufio.NewReader(s.in)
	for found := 0; ; {
		c, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return false, s.rewind()
		}
		if err != nil {
			return false, &ioError{fmt.Errorf("%s: %w", s.name, err)}
		}
		switch {
		case c == '/':
			found = 1
		case found == 1 && c == '*', found == 2 && c == 'M':
			found++
		case found >= 2 && c == '!':
			return true, s.rewind()
		default:
			found = 0
		}
	}
}

// sayFine says that a check has found nothing.
func sayFine(w io.Writer, count int) {
	fmt.Fprintf(w, "%s: nodes take all of them, as far as can be seen without a database\n",
		units.Of(uint64(count), "increment"))
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
		if !errors.Is(err, context.Canceled) {
			err = &ioError{fmt.Errorf("stdin: %w", err)}
		}
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// prove reads the whole script, counts its increments and returns an error that names every line for which nodes would
// refuse one, or which cannot be cut.
func (s *script) prove(pr *prover) (found finding, err error) {
	if in, is := s.in.(io.ReaderAt); is {
		if err := readable(s.name, in); err != nil {
			return found, err
		}
	}
	s.dialect, s.limit = pr.dialect, pr.limit
	lint, faults := pr.linter(s.name), []string(nil)
	splitter := s.splitter()
	for increment, err := range splitter.Scripts(s.in) {
		if err != nil {
			faults = append(faults, err.Error()+"; what follows was not looked at")
			break
		}
		found.Count++
		if pr.lint {
			lint.look(increment)
		}
		if len(increment.Text) > s.limit {
			faults = append(faults, fmt.Sprintf("line %d: this increment has %d bytes, and the broker takes at most %d: "+
				"cut it, or raise max_increment of the broker (up to %d)", increment.Line, len(increment.Text), s.limit,
				maxIncrement))
		} else if err := pr.check([]byte(increment.Text)); err != nil {
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
	return found, wrong(s.name, faults)
}

// finding is what a script holds.
type finding struct {
	Count int `json:"count"`
	sqltext.Counts
}

// tell says what became of statements that are no increments of their own.
func tell(w io.Writer, f sqltext.Counts) {
	if f.Settings > 0 {
		fmt.Fprintln(w, units.Do(uint64(f.Settings), "statement",
			"about a session was left out, or stands before the increments for which it holds",
			"about a session were left out, or stand before the increments for which they hold"))
	}
	if f.Databases > 0 {
		fmt.Fprintln(w, units.Do(uint64(f.Databases), "statement", "about databases was left out",
			"about databases were left out"))
	}
	if f.Owners > 0 {
		fmt.Fprintln(w, units.Do(uint64(f.Owners), "owner", "or definer was left out", "or definers were left out")+
			": what is made belongs to the role of each node")
	}
	if f.Engines > 0 {
		fmt.Fprintln(w, units.Do(uint64(f.Engines), "table", "of MyISAM or Aria is made as a table of InnoDB",
			"of MyISAM or Aria are made as tables of InnoDB"))
	}
	if f.Cut > 0 {
		fmt.Fprintln(w, units.Do(uint64(f.Cut), "statement", "was cut between rows", "were cut between rows"))
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
func (l *linter) body(place string, body []byte) {
	for _, w := range sqltext.Lint(l.dialect, string(body)) {
		l.warn(place, w)
	}
}

func (l *linter) warn(place string, w sqltext.Warning) {
	if key := strings.ToUpper(w.What); !l.seen[key] {
		l.seen[key] = true
		fmt.Fprintf(l.w, "xmq: warning: %s, %v (said once; --lint=false for silence)\n", place, w)
	}
}
