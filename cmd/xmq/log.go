package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/door"
	"xmq/broker/server"
	"xmq/broker/units"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Usage: "look at the log of increments, check it, free what nobody needs",
		Subcommands: []*cli.Command{
			{Name: "head", Usage: "where the log begins and ends, who holds it", Flags: apiFlags(), Action: logHead},
			{Name: "show", Usage: "one increment: its body on stdout, byte for byte unless that is a terminal", ArgsUsage: "SEQ",
				Flags: apiFlags(), Action: logShow},
			{Name: "tail", Usage: "the last increments, a line each", Flags: apiFlags(
				&cli.Uint64Flag{Name: "n", Usage: "how many increments to show", Value: 10},
				&cli.Uint64Flag{Name: "from", Usage: "begin at this sequence"},
				&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on, showing what comes"}),
				Action: goesOn("follow", logTail)},
			{Name: "check", Usage: "verify every record; of a running broker, or with --data of a stopped one", Flags: apiFlags(
				&cli.StringFlag{Name: "data", Usage: "data `DIR` of a stopped broker; nothing in it is changed"}),
				Action: logCheck},
			{Name: "trim", Usage: "free the segments that nobody needs", Flags: apiFlags(
				&cli.BoolFlag{Name: "confirm", Usage: "all clients are back after a loss of the state store"}), Action: logTrim},
			{Name: "accept", Usage: "take this log as it is, though nodes hold another one or more of it (needs --reason)",
				Flags: apiFlags(
					confirmFlag(), &cli.StringFlag{Name: "reason", Usage: "why; it will stand in the audit list"}), Action: logAccept},
		},
	}
}

func logHead(c *cli.Context) error {
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var l api.LogInfo
	if err := a.do(c.Context, "GET", "/v1/log", nil, &l); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c, l)
	}
	makePlain(reflect.ValueOf(&l))
	_, err = io.WriteString(c.App.Writer, logScreen(l, sizeOf(c.App.Writer).columns))
	return err
}

// logScreen shows where the log begins and ends, how much it is, and who holds it.
func logScreen(l api.LogInfo, columns int) string {
	var b strings.Builder
	if l.Broker.Time.IsZero() { // a broker of an earlier build
		if l.Input != nil {
			b.WriteString(wrapped(l.Input.String(), "", "  ", columns))
		}
	} else {
		b.WriteString(headline(l.Broker, l.Input, l.Log, l.First, l.Head, columns))
	}
	row := func(name, text string) {
		b.WriteString(wrapped(text, fmt.Sprintf("%-10s", name), strings.Repeat(" ", 10), columns))
	}
	row("log", l.Log.String())
	row("group", l.Group)
	row("first", units.Count(l.First))
	row("head", units.Count(l.Head))
	row("chain", l.Chain.String())
	size := units.Bytes(l.Bytes) + " in " + units.Of(uint64(l.Segments), "segment")
	if l.MaxBytes > 0 {
		size += ", limit " + units.Bytes(l.MaxBytes)
	}
	row("size", size)
	row("sync p99", fmt.Sprintf("%.2f ms", l.SyncP99MS))
	if l.Pin != nil {
		by := "by " + l.Holder
		if l.Holder == api.NoHolder {
			by = "because no client has a copy"
		}
		row("held", fmt.Sprintf("from %s on, %s, %s", units.Count(*l.Pin+1),
			units.Of(l.Head-min(l.Head, *l.Pin), "increment"), by))
	}
	for _, q := range l.Quarantined {
		row("damaged", q)
	}
	if l.Rebuilt {
		row("rebuilt", "the state store was lost: nothing is freed until xmq log trim --confirm")
	}
	return b.String()
}

// logAccept lets a broker take increments again whose log some nodes do not agree with.
func logAccept(c *cli.Context) error {
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var l api.LogInfo
	if err := a.do(c.Context, "GET", "/v1/log", nil, &l); err != nil {
		return err
	}
	if l.Input == nil || l.Input.Code != door.Held {
		return errors.New("no node speaks against this log: there is nothing to accept")
	}
	if err := needsReason(c, "xmq log accept"); err != nil {
		return err
	}
	if err := confirmed(c, l.Input.Text,
		"What those nodes hold and this log does not is lost to it. Take the log as it is?"); err != nil {
		return err
	}
	var done map[string]string
	if err := a.do(c.Context, "POST", "/v1/log/accept",
		map[string]any{"confirm": true, "reason": c.String("reason"), "via": operator()}, &done); err != nil {
		return err
	}
	return show(c, done, func(w io.Writer) {
		fmt.Fprintf(w, "log %s is accepted: increments are taken again. What helps each node that does not agree with it: "+
			"xmq alerts\n",
			done["log"])
	})
}

func logShow(c *cli.Context) error {
	seq, err := oneArg(c, "a sequence")
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(seq, 10, 64); err != nil || n == 0 {
		return usage("xmq log show: %q is not a sequence: sequences are numbers from 1", seq)
	}
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var body bytes.Buffer // asked for with --json too: the broker says whether there is such an increment
	if err := a.send(c.Context, "GET", "/v1/increments/"+seq, "", nil, &body); err != nil {
		return err
	}
	to := raw(c.App.Writer) // to a file or a program as it is
	switch {
	case c.Bool("json"):
		body.Reset()
		if err := a.send(c.Context, "GET", "/v1/increments?limit=1&from="+seq, "", nil, &body); err != nil {
			return err
		}
		if i := bytes.IndexByte(body.Bytes(), '\n'); i >= 0 { // behind it stands where the next request goes on
			body.Truncate(i + 1)
		}
		to = screen{to, true}
	case terminal(to):
		to = c.App.Writer
	}
	if _, err = to.Write(body.Bytes()); err != nil || c.Bool("json") {
		return err
	}
	var decided []string
	no := (*refusal)(nil)
	// an earlier broker knows none
	if err := a.do(c.Context, "GET", "/v1/decisions/"+seq, nil, &decided); err != nil && !errors.As(err, &no) {
		return err
	}
	for _, d := range decided {
		fmt.Fprintln(c.App.ErrWriter, "xmq: "+d)
	}
	return nil
}

func logTail(c *cli.Context) error {
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	from, n, wait := c.Uint64("from"), c.Uint64("n"), ""
	for {
		path := fmt.Sprintf("/v1/increments?limit=%d%s", n, wait)
		if from > 0 {
			path += fmt.Sprintf("&from=%d", from)
		}
		var buf bytes.Buffer
		if err := a.send(c.Context, "GET", path, "", nil, &buf); err != nil {
			return err
		}
		ended := false
		for line := range bytes.Lines(buf.Bytes()) {
			var l struct {
				api.Line
				api.Next
				Error string
			}
			if err := json.Unmarshal(line, &l); err != nil || l.Seq == 0 && l.Next.Next == 0 {
				return &ioError{fmt.Errorf("the broker answered %.200q", cmp.Or(l.Error, string(line)))}
			}
			if ended = l.Seq == 0; ended {
				from = l.Next.Next
				continue
			}
			from = l.Seq + 1
			if err := printLine(c, line, l.Line); err != nil {
				return err
			}
		}
		if !c.Bool("follow") {
			return nil
		}
		n, wait = 1000, "&wait=20s"
		if ended {
			continue
		}
		select { // a broker of an earlier build does not wait
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// printLine prints one increment: as it came with --json, else the beginning of its body on one line.
func printLine(c *cli.Context, line []byte, l api.Line) error {
	if c.Bool("json") {
		_, err := screen{raw(c.App.Writer), true}.Write(line)
		return err
	}
	makePlain(reflect.ValueOf(&l))
	_, err := io.WriteString(c.App.Writer, tailLine(l, sizeOf(c.App.Writer).columns))
	return err
}

// tailLine is one increment, with as much of its body as there are columns for, and some of it always.
func tailLine(l api.Line, columns int) string {
	head := fmt.Sprintf("%s  %s  %s  %s  ", units.Count(l.Seq), l.Time.UTC().Format("2006-01-02 15:04:05.000Z"),
		topicWord(l.Topic), units.Bytes(int64(len(l.Body))))
	body, least := l.Body, 8
	for n := min(len(body), columns); ; n-- {
		if text := fmt.Sprintf("%q", body[:n]); n <= least ||
			utf8.RuneCountInString(head)+utf8.RuneCountInString(text) <= columns {
			return head + text + "\n"
		}
	}
}

func topicWord(t string) string {
	if t == "" {
		return "-"
	}
	return t
}

func logCheck(c *cli.Context) error {
	var res api.Checked
	p := newProgress(c.App.ErrWriter)
	if dir := c.String("data"); dir != "" {
		var err error
		res, err = server.CheckOffline(c.Context, dir, func(seq uint64) { p.say("checked up to %d", seq) })
		p.end()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return &ioError{fmt.Errorf("%s holds no log: name the data directory of a broker", dir)}
		case errors.Is(err, syscall.EAGAIN):
			return &temporaryError{fmt.Errorf("%s is in use by a broker: stop it first, or leave --data out to let it check "+
				"its log itself", dir)}
		case err != nil:
			return err
		}
	} else {
		a, err := newAPI(c)
		if err != nil {
			return err
		}
		a.http.Timeout = 0
		err = p.during("the broker checks its log",
			func() error { return a.do(c.Context, "POST", "/v1/log/check", struct{}{}, &res) })
		if err != nil {
			return err
		}
	}
	err := show(c, res, func(w io.Writer) {
		if res.Records == 0 && len(res.Damaged)+len(res.Unreadable) == 0 {
			fmt.Fprintln(w, "0 records checked: the log holds none")
		} else {
			fmt.Fprintf(w, "%s checked, %s to %s\n", units.Of(res.Records, "record"), units.Count(res.First),
				units.Count(res.Last))
		}
		for segment, what := range res.Damaged {
			fmt.Fprintf(w, "DAMAGED\t%s\t%s\n", segment, what)
			if help := res.Help[segment]; help != "" {
				fmt.Fprintf(w, "help\t%s\t%s\n", segment, help)
			}
		}
		for segment, what := range res.Unreadable {
			fmt.Fprintf(w, "UNREADABLE\t%s\t%s\n", segment, what)
		}
		switch {
		case res.Missing != "":
			fmt.Fprintf(w, "MISSING\t%s\n", res.Missing)
		case res.Unknown != "":
			fmt.Fprintf(w, "unknown\t%s\n", res.Unknown)
		case res.Checkpoint > 0:
			fmt.Fprintf(w, "acknowledged up to %s at least\n", units.Count(res.Checkpoint))
		}
	})
	switch {
	case err != nil:
		return err
	case res.Missing != "":
		return &damageError{errors.New("acknowledged increments are missing: put the log back from where they are, or let " +
			"every node join again with a DUMP")}
	case len(res.Help) > 0:
		return &damageError{fmt.Errorf("the broker cannot start with %s of its data (%d damaged in all): do what the "+
			"lines \"help\" say", units.Of(uint64(len(res.Help)), "damaged part"), len(res.Damaged))}
	case len(res.Damaged) > 0:
		return &damageError{fmt.Errorf("%s: put what is damaged back from a copy of the data directory; without it the next "+
			"start of the broker may need --set-aside, and clients that need it have to DUMP again",
			units.Do(uint64(len(res.Damaged)), "segment", "of the log is damaged", "of the log are damaged"))}
	case len(res.Unreadable) > 0:
		return &temporaryError{fmt.Errorf("%s: whether it is damaged is not known, check again",
			units.Do(uint64(len(res.Unreadable)), "part", "of the log cannot be read now", "of the log cannot be read now"))}
	}
	return nil
}

func logTrim(c *cli.Context) error {
	a, err := newAPI(c)
	if err != nil {
		return err
	}
	var res struct {
		Freed int    `json:"freed_segments"`
		First uint64 `json:"first"`
		Note  string `json:"note"`
	}
	a.http.Timeout = 0
	err = newProgress(c.App.ErrWriter).during("the broker frees segments", func() error {
		return a.do(c.Context, "POST", "/v1/log/trim", map[string]any{"confirm": c.Bool("confirm"), "via": operator()}, &res)
	})
	if err != nil {
		return err
	}
	return show(c, res, func(w io.Writer) {
		fmt.Fprintf(w, "%s freed, the log begins at %s\n%s\n", units.Of(uint64(res.Freed), "segment"), units.Count(res.First),
			res.Note)
	})
}
