package redis

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"xmq/nodeclient/driver/internal/apply"
	"xmq/nodeclient/driver/internal/commands"
)

// maxWords is how many words a script can hand to one command; the limit is Lua's stack.
const maxWords = 7000

// order is one command, ready to run.
type order struct {
	spec  *spec
	words commands.Command
	keys  [][]byte // it may read or write
	how   byte     // what a script does about it; 0: nothing but call it
	word  int      // which word that is about
}

// work is one increment.
type work []order

// step is one item of a batch, ready to run.
type step = apply.Step[work]

// parse looks at an increment before it runs: what its words alone tell. Refused, as a FAIL, is what spec.refused
// says, a command of more than maxWords words, and a FLUSHDB before the end of its increment.
func (t table) parse(body []byte) (work, error) {
	commands, err := commands.Parse(body)
	if err != nil {
		return nil, err
	}
	w := make(work, len(commands))
	for i, c := range commands {
		if w[i], err = t.order(c); err != nil {
			return nil, fmt.Errorf("command %d: %w", i+1, err)
		}
		if w[i].flushes() && i < len(commands)-1 {
			return nil, fmt.Errorf("command %d: FLUSHDB cannot be taken back when a command after it fails: make it the "+
				"last of its increment", i+1)
		}
	}
	return w, nil
}

func (t table) order(c commands.Command) (order, error) {
	s, err := t.find(c)
	if err != nil {
		return order{}, err
	}
	if len(c) > maxWords {
		return order{}, fmt.Errorf("%s has %d words, more than the %d one command can have here: cut it into several", s.name,
			len(c), maxWords)
	}
	if s.name == "COPY" && slices.ContainsFunc(c[3:],
		func(option []byte) bool { return strings.EqualFold(string(option), "DB") }) {
		return order{}, fmt.Errorf("COPY with DB is refused: %s", reaches)
	}
	o := order{spec: s, words: c}
	if !s.movable {
		o.keys = s.keys(c)
	}
	return o, nil
}

// manner is how a script treats the command.
func (o order) manner() string {
	if o.how == 0 {
		return "0"
	}
	return string(o.how) + strconv.Itoa(o.word)
}

// flushes reports whether the command deletes all keys.
func (o order) flushes() bool { return o.spec.name == "FLUSHDB" }

// check looks at the keys.
func (o order) check() error {
	if len(o.keys) == 0 && !o.flushes() {
		return fmt.Errorf("%s is refused: which keys it changes cannot be told", o.spec.name)
	}
	for _, key := range o.keys {
		if bytes.HasPrefix(key, []byte(reserved)) {
			return fmt.Errorf("%s is refused: keys that begin with %s are XMQ's own", o.spec.name, reserved)
		}
	}
	return nil
}

// ready does what needs more than the words of one increment: it makes times absolute, asks the server for the keys
// of commands that do not show them, and checks all keys. It returns the steps before the first that is refused, with
// the error of that one, else refused. err is classed trouble that says nothing about an increment.
func (t *Database) ready(ctx context.Context, steps []step, refused error) (_ []step, _, err error) {
	asked := make(map[*order]*redis.Cmd)
	pipe := t.conn.Pipeline()
	for i, s := range steps {
		for k := range s.Work {
			o := &s.Work[k]
			if err := o.absolute(s.Time); err != nil {
				steps, refused = steps[:i], refuse(s, k, err)
				break
			}
			if o.spec.movable {
				args := []any{"COMMAND", "GETKEYS"}
				for _, word := range o.words {
					args = append(args, word)
				}
				asked[o] = pipe.Do(ctx, args...)
			}
		}
		if i >= len(steps) {
			break
		}
	}
	if len(asked) > 0 {
		_, _ = pipe.Exec(ctx) // each answer has its own error
	}
	for i, s := range steps {
		for k := range s.Work {
			o := &s.Work[k]
			var keys []string
			var err error
			if ask := asked[o]; ask != nil {
				keys, err = ask.StringSlice()
			}
			if err != nil && (said(err) == "" || transient(said(err)) || noperm(err)) {
				return nil, nil, classify(ctx, "ask for the keys of commands", err)
			}
			for _, key := range keys {
				o.keys = append(o.keys, []byte(key))
			}
			if err == nil {
				err = o.check()
			}
			if err != nil {
				return steps[:i], refuse(s, k, err), nil
			}
		}
	}
	return steps, refused, nil
}

// refuse is the FAIL of a step because of its k-th command.
func refuse(s step, k int, err error) error {
	return fmt.Errorf("redis: increment %d: command %d: %w: %s", s.Seq(), k+1, err, s.Work[k].words)
}
