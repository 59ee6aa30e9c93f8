package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/nodeclient/driver/sqltext"
)

func publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Usage: "send changes to the broker, in order", ArgsUsage: "[FILE...]",
		Description: "Without arguments every line of stdin is one increment, without its line break. A FILE named *.sql, " +
			"and what --sql\n" +
			"names, is a script and is split: every statement is one increment, and so is everything between BEGIN and " +
			"COMMIT.\n" +
			"Any other FILE is one increment. Everything is read and checked before anything is sent: a statement that nodes " +
			"would\n" +
			"refuse, a line that is no whole statement. --lines sends lines (of stdin, or of FILEs) as they are.\n\n" +
			"The dialect is that of the broker's nodes, unless --dialect names one.\n\n" +
			"A statement with arguments is {\"sql\": \"...\", \"args\": [...]}; several of them, as one increment,\n" +
			"{\"tx\": [{\"sql\": \"...\", \"args\": [...]}, ...]}. Arguments stand for $1, $2 (PostgreSQL), ? (MariaDB, " +
			"MySQL),\n" +
			"?, ?1 or $1 (SQLite): null, true, false, numbers of any length as they are written, strings, bytes as\n" +
			"{\"base64\": \"...\"}, objects and lists as JSON; a time is a string, '2026-11-30 09:57:58.123456', in UTC.",
		Flags: apiFlags(
			&cli.StringFlag{Name: "topic", Usage: "topic of the increments"},
			&cli.StringFlag{Name: "content-type", Usage: "content type of the increments"},
			&cli.StringFlag{Name: "apply-limit",
				Usage: "how long each may be at a database: a `DURATION` of 1s to 720h, or none (default: apply_limit of " +
					"the node)"},
			&cli.StringFlag{Name: "sql", Usage: "SQL script `FILE`; - for stdin"},
			&cli.BoolFlag{Name: "lines", Usage: "every line of stdin or of the FILEs is one increment, as it is"},
			&cli.StringFlag{Name: "dialect",
				Usage: "`NAME` of the SQL: sqlite, postgres (postgresql, pg), mariadb or mysql (default: that of the broker's " +
					"nodes)"},
			&cli.BoolFlag{Name: "check", Usage: "send nothing, say what nodes of the dialect would refuse"},
			&cli.StringFlag{Name: "leave-out", Usage: "of scripts: `databases` passes over USE, \\connect and CREATE, ALTER " +
				"and DROP DATABASE"},
			&cli.IntFlag{Name: "max-increment",
				Usage: "the broker's max_increment in `BYTES`; 0 to ask it"},
			&cli.BoolFlag{Name: "lint", Value: true,
				Usage: "of scripts, and with --dialect: warn of what every node answers differently (clocks, random values, rows " +
					"in no order)"},
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
	case c.String("sql") != "" && c.Bool("lines"):
		return usage("give either --sql or --lines, not both")
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
			fmt.Fprintf(c.App.ErrWriter, "xmq: %s Trying again for %s.\n", sentence(err), c.Duration("retry"))
		}}
	in, err := sources(c)
	if err != nil {
		return err
	}
	defer func() { _ = closeAll(in) }() // they were only read
	err = p.publish(c, in)
	p.progress.end()
	if c.Bool("check") && err == nil {
		return nil
	}
	if err != nil && p.done.Count > 0 {
		err = fmt.Errorf("%w (%s stored of this input, the last one as %d)", err, units.Do(uint64(p.done.Count), "increment",
			"is", "are"), p.done.Last)
	}
	if err != nil {
		return err
	}
	return show(c, p.done, func(w io.Writer) {
		p.done.say(w)
		tell(w, p.done.Counts)
	})
}

// publish sends all of in, when all of it is good.
func (p *publisher) publish(c *cli.Context, in []source) error {
	pr, err := newProver(c, p, in)
	if err != nil {
		return err
	}
	var found finding
	for _, s := range in {
		one, err := s.prove(pr)
		if err != nil {
			return err
		}
		found.Count += one.Count
		found.Add(one.Counts)
	}
	if p.done.Counts = found.Counts; c.Bool("check") {
		return show(c, found, func(w io.Writer) {
			sayFine(w, found.Count)
			tell(w, found.Counts)
		})
	}
	for _, s := range in {
		if err = s.send(c.Context, p); err != nil {
			break
		}
	}
	if err == nil || c.Context.Err() == nil { // what came before a mistake in the input is stored, and counted
		if last := p.flush(c.Context); err == nil {
			err = last
		}
	}
	return err
}

// publisher sends increments in batches, in order, each with an idempotency key, and tries again while the broker is
// away: nothing is stored twice.
type publisher struct {
	api                        *apiClient
	topic, contentType, prefix string
	limit                      string // of each increment; "" for none of its own
	patience                   time.Duration
	progress                   *progress
	waiting                    func(error) // is told once when the broker is away; nil for nobody
	number                     uint64      // of the next increment, for its key
	batch                      bytes.Buffer
	lines                      int
	size                       int  // of the newest increment in bytes
	repeated                   bool // the batch was sent before: what is known of it may be from then
	done                       published
}

// published is the answer of xmq publish.
type published struct {
	First          uint64 `json:"first"`
	Last           uint64 `json:"last"`
	Count          uint64 `json:"count"`
	Known          uint64 `json:"known,omitempty"` // of Count: were there already, by their keys
	sqltext.Counts        // of a script
}

// say tells people what was stored.
func (d *published) say(w io.Writer) {
	fresh := d.Count - d.Known
	switch {
	case d.Count == 0:
		fmt.Fprintln(w, "nothing to publish: the input is empty")
	case d.Known == 1 && fresh == 0:
		fmt.Fprintf(w, "nothing new: 1 increment was there already, %d\n", d.First)
	case fresh == 0:
		fmt.Fprintf(w, "nothing new: %s there already, %d to %d\n", units.Do(uint64(d.Known), "increment", "was", "were"),
			d.First, d.Last)
	case d.Count == 1:
		fmt.Fprintf(w, "1 increment published, %d\n", d.First)
	case d.Known == 0:
		fmt.Fprintf(w, "%s published, %d to %d\n", units.Of(uint64(d.Count), "increment"), d.First, d.Last)
	default:
		fmt.Fprintf(w, "%s published, %s there already, all of them from %d to %d\n", units.Of(uint64(fresh), "increment"),
			units.Do(uint64(d.Known), "increment", "was", "were"), d.First, d.Last)
	}
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
			Seq       uint64
			Error     string
			Duplicate bool
		}
	}
	err := p.insist(ctx, func() error {
		return p.api.send(ctx, "POST", "/v1/increments/batch", "application/x-ndjson", bytes.NewReader(p.batch.Bytes()),
			&answer)
	})
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
		if r.Duplicate && !p.repeated {
			p.done.Known++
		}
		if p.done.First == 0 || r.Seq < p.done.First {
			p.done.First = r.Seq
		}
		p.done.Last = max(p.done.Last, r.Seq)
		p.done.Count++
	}
	p.progress.say("%s published, up to %d", units.Of(uint64(p.done.Count), "increment"), p.done.Last)
	return nil
}

// inWords turns the number of a line in the batch that was refused into its number in the whole input.
func (p *publisher) inWords(r *refusal) error {
	line, text, found := strings.Cut(strings.TrimPrefix(r.text, "line "), ": ")
	n, err := strconv.ParseUint(line, 10, 64)
	switch {
	case r.status == http.StatusRequestEntityTooLarge && !found: // of the whole batch, which the newest one has filled
		return fmt.Errorf("increment %d of this input was refused: its %d bytes are above the limit: cut it, or raise "+
			"max_increment of the broker", p.number, p.size)
	case !found || err != nil || n == 0 || n > uint64(p.lines):
		return r
	}
	return fmt.Errorf("increment %d of this input was refused: %s", p.number-uint64(p.lines)+n, text)
}

// insist asks until the broker has answered, for as long as patience lasts.
func (p *publisher) insist(ctx context.Context, ask func() error) error {
	end := time.Now().Add(p.patience)
	p.repeated = false
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := ask()
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
		p.repeated = true
	}
}
