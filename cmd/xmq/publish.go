package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"xmq/broker/event"
	"xmq/nodeclient/target/sqltext"
)

func publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Usage: "hand changes to the broker, in order", ArgsUsage: "[FILE...]",
		Description: "Without arguments every line of stdin is one increment; every FILE is one increment; with --sql a script is split:\n" +
			"every statement is one increment, and so is everything between BEGIN and COMMIT. The whole script is checked first:\n" +
			"when nodes would refuse a statement, nothing is sent. Lines and files are checked in the same way when\n" +
			"--dialect is given.\n\n" +
			"A statement with arguments is {\"sql\": \"...\", \"args\": [...]}; several of them, as one increment,\n" +
			"{\"tx\": [{\"sql\": \"...\", \"args\": [...]}, ...]}. Arguments stand for $1, $2 (PostgreSQL), ? (MariaDB, MySQL),\n" +
			"?, ?1 or $1 (SQLite): null, true, false, numbers of any length as they are written, strings, bytes as\n" +
			"{\"base64\": \"...\"}, objects and lists as JSON; a time is a string, '2026-11-30 09:57:58.123456', in UTC.",
		Flags: apiFlags(
			&cli.StringFlag{Name: "topic", Usage: "topic of the increments"},
			&cli.StringFlag{Name: "content-type", Usage: "content type of the increments"},
			&cli.StringFlag{Name: "apply-limit",
				Usage: "how long each may be at a database: a `DURATION` of 1s to 720h, or none (default: apply_limit of the node)"},
			&cli.StringFlag{Name: "sql", Usage: "SQL script `FILE`; - for stdin"},
			&cli.StringFlag{Name: "dialect", Value: "sqlite",
				Usage: "of the script, or of lines and files that are to be checked: sqlite, postgres, mariadb or mysql"},
			&cli.BoolFlag{Name: "check",
				Usage: "with --sql or --dialect: send nothing, say what nodes of the dialect would refuse"},
			&cli.StringFlag{Name: "leave-out", Usage: "with --sql: `databases` passes over USE, \\connect and CREATE, ALTER and DROP DATABASE"},
			&cli.IntFlag{Name: "max-increment",
				Usage: "with --sql or --dialect: the broker's max_increment in `BYTES`; 0 to ask it"},
			&cli.BoolFlag{Name: "lint", Value: true,
				Usage: "with --sql or --dialect: warn of what every node answers differently (clocks, dice, rows in no order)"},
			&cli.StringFlag{Name: "idempotency-prefix", Usage: "`NAME` of this input: publishing it again stores nothing twice"},
			&cli.DurationFlag{Name: "retry", Usage: "how long to try again while the broker is away", Value: time.Minute},
		),
		Action: publish,
	}
}

func publish(c *cli.Context) error {
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	switch {
	case c.String("sql") != "" && c.Args().Present():
		return usage("give either --sql or files, not both")
	case c.String("sql") == "" && c.Bool("check") && !c.IsSet("dialect"):
		return usage("--check needs --sql or --dialect: only a dialect says what nodes would refuse")
	}
	if _, err := event.ParseLimit(c.String("apply-limit")); c.IsSet("apply-limit") && err != nil {
		return usage("--apply-limit: %v", err)
	}
	prefix := c.String("idempotency-prefix")
	if prefix == "" {
		prefix = rand.Text() // so that trying again after an unknown outcome stores nothing twice
	}
	p := &publisher{api: a, topic: c.String("topic"), contentType: c.String("content-type"),
		limit: c.String("apply-limit"), prefix: prefix, patience: c.Duration("retry"),
		progress: newProgress(c.App.ErrWriter),
		waiting: func(err error) {
			fmt.Fprintf(c.App.ErrWriter, "xmq: %v Trying again for %s.\n", err, c.Duration("retry"))
		}}
	switch {
	case c.String("sql") != "":
		err = publishSQL(c, p)
	case c.IsSet("dialect"):
		err = publishChecked(c, p)
	case c.Args().Present():
		err = p.send(c.Context, files(c.Args().Slice()))
	default:
		err = p.send(c.Context, lines(c.Context, c.App.Reader))
	}
	if err == nil || c.Context.Err() == nil { // what came before a mistake in the input is stored, and counted below
		if last := p.flush(c.Context); err == nil {
			err = last
		}
	}
	p.progress.end()
	if c.Bool("check") && err == nil {
		return nil
	}
	if err != nil && p.done.Count > 0 {
		err = fmt.Errorf("%w (of this input, %d are stored, the last one as %d)", err, p.done.Count, p.done.Last)
	}
	if err != nil {
		return err
	}
	return show(c, p.done, func(w io.Writer) {
		switch p.done.Count {
		case 0:
			fmt.Fprintln(w, "nothing to publish: the input is empty")
		case 1:
			fmt.Fprintf(w, "1 increment published, %d\n", p.done.First)
		default:
			fmt.Fprintf(w, "%d increments published, %d to %d\n", p.done.Count, p.done.First, p.done.Last)
		}
		tell(w, p.done.Counts)
	})
}

// input is one increment as it was given.
type input struct {
	place string // "line 3 of stdin", or the name of its file
	body  []byte // borrowed until the next one
}

// inputs yields what is to be published; the last pair has the error, if any.
type inputs = iter.Seq2[input, error]

// lines are those of r, which is stdin.
func lines(ctx context.Context, r io.Reader) inputs {
	return func(yield func(input, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		lines.Split(exactLines)
		n := 1
		for ; lines.Scan(); n++ {
			if len(lines.Bytes()) == 0 {
				yield(input{}, fmt.Errorf("line %d of stdin is empty: an increment needs a body", n))
				return
			}
			if !yield(input{fmt.Sprintf("line %d of stdin", n), lines.Bytes()}, nil) {
				return
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(input{}, fmt.Errorf("line %d of stdin is longer than %d bytes: an increment cannot be so large", n, maxLine))
		case err != nil && ctx.Err() == nil:
			yield(input{}, &ioError{fmt.Errorf("stdin: %w", err)})
		case err != nil:
			yield(input{}, err)
		}
	}
}

// maxLine is the longest line of stdin in bytes; the broker's own limit is lower.
const maxLine = 16 << 20

// exactLines splits at line feeds and changes nothing else: a carriage return belongs to the line.
func exactLines(data []byte, end bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// files are those with these names, each of them one increment.
func files(paths []string) inputs {
	return func(yield func(input, error) bool) {
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err == nil && len(b) == 0 {
				err = fmt.Errorf("%s is empty: an increment needs a body", path)
			}
			if !yield(input{path, b}, err) || err != nil {
				return
			}
		}
	}
}

// send adds all increments, until one cannot be had or sent.
func (p *publisher) send(ctx context.Context, all inputs) error {
	for in, err := range all {
		if err != nil {
			return err
		}
		if err := p.add(ctx, in.body); err != nil {
			return err
		}
	}
	return nil
}

// publisher sends increments in batches, in order, each with an idempotency key, and tries again while the broker is
// away: nothing is stored twice.
type publisher struct {
	api                        *api
	topic, contentType, prefix string
	limit                      string // of each increment; "" for none of its own
	patience                   time.Duration
	progress                   *progress
	waiting                    func(error) // is told once when the broker is away; nil for nobody
	number                     uint64      // of the next increment, for its key
	batch                      bytes.Buffer
	lines                      int
	size                       int // of the newest increment in bytes
	done                       published
}

// published is the answer of xmq publish.
type published struct {
	First          uint64 `json:"first"`
	Last           uint64 `json:"last"`
	Count          uint64 `json:"count"`
	sqltext.Counts        // of a script
}

// The size of one request.
const (
	batchLines = 500
	batchBytes = 1 << 20
)

func (p *publisher) add(ctx context.Context, body []byte) error {
	p.number++
	p.size = len(body)
	line := map[string]any{"key": fmt.Sprintf("%s/%d", p.prefix, p.number)}
	text, err := json.Marshal(string(body))
	if err != nil {
		return err
	}
	if utf8.Valid(body) && len(text) <= base64.StdEncoding.EncodedLen(len(body))+len(`"body":""`) {
		line["body"] = json.RawMessage(text)
	} else { // what is no text, or mostly escapes
		line["base64"] = body
	}
	if p.topic != "" {
		line["topic"] = p.topic
	}
	if p.contentType != "" {
		line["content_type"] = p.contentType
	}
	if p.limit != "" {
		line["apply_limit"] = p.limit
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	p.batch.Write(b)
	p.batch.WriteByte('\n')
	if p.lines++; p.lines == batchLines || p.batch.Len() >= batchBytes {
		return p.flush(ctx)
	}
	return nil
}

// flush sends what is gathered.
func (p *publisher) flush(ctx context.Context) error {
	if p.lines == 0 {
		return nil
	}
	var answer struct {
		First, Last uint64
		Count       uint64
		Results     []struct {
			Seq   uint64
			Error string
		}
	}
	err := p.insist(ctx, &answer)
	var refused *refusal
	if errors.As(err, &refused) {
		err = p.inWords(refused)
	}
	p.lines = 0 // what was not stored now is not sent later: order would be lost
	p.batch.Reset()
	if err != nil {
		return err
	}
	for i, r := range answer.Results {
		if r.Error != "" {
			return fmt.Errorf("increment %d of this input was refused: %s", p.number-uint64(len(answer.Results)-i-1), r.Error)
		}
		if p.done.First == 0 {
			p.done.First = r.Seq
		}
		p.done.Last = r.Seq
		p.done.Count++
	}
	p.progress.say("%d increments published, up to %d", p.done.Count, p.done.Last)
	return nil
}

// inWords turns the number of a line in the batch that was refused into its number in the whole input.
func (p *publisher) inWords(r *refusal) error {
	line, text, found := strings.Cut(strings.TrimPrefix(r.text, "line "), ": ")
	n, err := strconv.ParseUint(line, 10, 64)
	switch {
	case r.status == http.StatusRequestEntityTooLarge && !found: // of the whole batch, which the newest one has filled
		return fmt.Errorf("increment %d of this input was refused: its %d bytes are above the limit", p.number, p.size)
	case !found || err != nil || n == 0 || n > uint64(p.lines):
		return r
	}
	return fmt.Errorf("increment %d of this input was refused: %s", p.number-uint64(p.lines)+n, text)
}

// insist sends the batch until the broker has answered it, for as long as patience lasts.
func (p *publisher) insist(ctx context.Context, answer any) error {
	end := time.Now().Add(p.patience)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := p.api.send(ctx, "POST", "/v1/increments/batch", "application/x-ndjson", bytes.NewReader(p.batch.Bytes()), answer)
		var refused *refusal
		var away *temporaryError
		var cut *ioError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && refused.status != 503 && refused.status != 507:
			return err
		case !errors.As(err, &refused) && !errors.As(err, &away) && !errors.As(err, &cut), time.Now().After(end):
			return err
		}
		if p.waiting != nil && wait == time.Second { // not for a broker that is back at once
			p.waiting(err)
			p.waiting = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
