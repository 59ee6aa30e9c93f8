package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"xmq/nodeclient/driver/internal/commands"
)

// spec is what the server says about one command.
type spec struct {
	name              string // in upper case; "XGROUP CREATE" for one of several under a name
	refused           string // why no increment may hold it; "" when one may
	arity             int    // words, the name with them; -n: n or more
	first, last, step int    // which words are keys; last may count from the end, as -1
	movable           bool   // which words are keys depends on the words: the server must be asked
	hungry            bool   // it may need memory, and is refused without
	subs              map[string]*spec
}

// table is what the server says about its commands, by name in upper case.
type table map[string]*spec

// beyond are commands that reach beyond the target's logical database.
const beyond = "SELECT SWAPDB MOVE FLUSHALL MIGRATE RESTORE-ASKING"

// fieldTimes are commands that give single fields of a hash a time to live.
const fieldTimes = "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HSETEX HGETEX"

const reaches = "it reaches beyond the logical database that is the target"

// refusal says why a command of this kind cannot be in an increment.
func refusal(name string, flags, tips []string) string {
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	switch {
	case slices.Contains(strings.Fields(beyond), name):
		return reaches
	case slices.Contains(strings.Fields(fieldTimes), name):
		return "each server ends fields of a hash by its own clock, so that nodes would differ; give the whole key a time " +
			"to live"
	case has("admin") || has("pubsub"):
		return "it works on the server, not on the data"
	case has("blocking"):
		return "it may wait, and an increment must not"
	case has("noscript"):
		return "it works on the connection, or runs a program whose keys nobody can know beforehand; write the commands " +
			"themselves"
	case !has("write"):
		return "it only reads, and an increment holds what changes the data"
	case slices.Contains(tips, "nondeterministic_output") && name != "XADD" &&
		name != "XTRIM": // these are made exact, see absolute
		return "chance or the server's clock decides what it does, so that nodes would differ; write what it shall do"
	}
	return ""
}

// readTable asks the server for its commands.
func readTable(ctx context.Context, c redis.UniversalClient) (table, error) {
	answer, err := c.Do(ctx, "COMMAND").Slice()
	if err != nil {
		return nil, openError(ctx, err)
	}
	return parseTable(answer, "")
}

func parseTable(rows []any, parent string) (table, error) {
	t := make(table, len(rows))
	for _, row := range rows {
		f, _ := row.([]any)
		if len(f) < 10 {
			return nil, fmt.Errorf("redis: the answer to COMMAND has a row of %d fields: the server is no Redis of version "+
				"%d or later", len(f), minMajor)
		}
		name := strings.ToUpper(strings.ReplaceAll(text(f[0]), "|", " "))
		flags, tips := texts(f[2]), texts(f[7])
		s := &spec{
			name: name, refused: refusal(name, flags, tips),
			arity: number(f[1]), first: number(f[3]), last: number(f[4]), step: number(f[5]),
			movable: slices.Contains(flags, "movablekeys"), hungry: slices.Contains(flags, "denyoom"),
		}
		if subs, _ := f[9].([]any); len(subs) > 0 {
			var err error
			if s.subs, err = parseTable(subs, name); err != nil {
				return nil, err
			}
		}
		t[strings.TrimPrefix(name, parent+" ")] = s
	}
	return t, nil
}

func text(v any) string { s, _ := v.(string); return s }
func number(v any) int  { n, _ := v.(int64); return int(n) }

func texts(v any) (all []string) {
	list, _ := v.([]any)
	for _, e := range list {
		all = append(all, text(e))
	}
	return all
}

// find looks a command up and checks that an increment may hold it and that it has enough words.
func (t table) find(c commands.Command) (*spec, error) {
	s := t[c.Name()]
	if s == nil {
		return nil, fmt.Errorf("the server knows no command %q", c[0][:min(len(c[0]), 64)])
	}
	if len(s.subs) > 0 {
		if len(c) == 1 {
			return nil, fmt.Errorf("wrong number of arguments for %s", s.name)
		}
		sub := s.subs[c[1:].Name()]
		if sub == nil {
			return nil, fmt.Errorf("the server knows no command %q of %s", c[1][:min(len(c[1]), 64)], s.name)
		}
		s = sub
	}
	switch {
	case s.refused != "":
		return nil, fmt.Errorf("%s is refused: %s", s.name, s.refused)
	case s.arity > 0 && len(c) != s.arity || len(c) < -s.arity:
		return nil, fmt.Errorf("wrong number of arguments for %s", s.name)
	}
	return s, nil
}

// keys are the words of c that are keys; not for a movable spec.
func (s *spec) keys(c commands.Command) (keys [][]byte) {
	last := s.last
	if last < 0 {
		last += len(c)
	}
	if s.first == 0 || s.step <= 0 {
		return nil
	}
	for i := s.first; i <= last && i < len(c); i += s.step {
		keys = append(keys, c[i])
	}
	return keys
}
