package kv

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"xmq/nodeclient/driver/internal/commands"
)

// The limits of keys and values, in bytes.
const (
	MaxKey   = 1024
	MaxValue = 16 << 20
)

// change is what one word of an increment does to one key.
type change struct {
	key   string
	value []byte // with set
	set   bool
	add   int64 // with count
	count bool  // neither set nor count: the key is deleted
}

// parse looks at an increment before it runs.
func parse(body []byte) (changes []change, err error) {
	commands, err := commands.Parse(body)
	if err != nil {
		return nil, err
	}
	for i, c := range commands {
		if changes, err = appendChanges(changes, c); err != nil {
			return nil, fmt.Errorf("command %d: %w: %s", i+1, err, c)
		}
	}
	return changes, nil
}

// appendChanges adds what a command does.
func appendChanges(changes []change, c commands.Command) ([]change, error) {
	args := c[1:]
	wrong := func(form string) ([]change, error) { return nil, fmt.Errorf("its form is %s", form) }
	switch name := c.Name(); name {
	case "SET", "MSET":
		if name == "SET" && len(args) != 2 {
			return wrong("SET key value")
		}
		if len(args) == 0 || len(args)%2 != 0 {
			return wrong("MSET key value [key value ...]")
		}
		for i := 0; i < len(args); i += 2 {
			if len(args[i+1]) > MaxValue {
				return nil, fmt.Errorf("a value of %d bytes is longer than the %d one may have", len(args[i+1]), MaxValue)
			}
			changes = append(changes, change{key: string(args[i]), value: args[i+1], set: true})
		}
	case "DEL":
		if len(args) == 0 {
			return wrong("DEL key [key ...]")
		}
		for _, key := range args {
			changes = append(changes, change{key: string(key)})
		}
	case "INCR", "DECR":
		if len(args) < 1 || len(args) > 2 {
			return wrong(name + " key [n]")
		}
		n := int64(1)
		if len(args) == 2 {
			var err error
			if n, err = number(args[1]); err != nil {
				return nil, err
			}
		}
		if name == "DECR" {
			if n == math.MinInt64 {
				return nil, errOverflow
			}
			n = -n
		}
		changes = append(changes, change{key: string(args[0]), add: n, count: true})
	default:
		return nil, errors.New("an increment may hold SET, MSET, DEL, INCR and DECR: what changes the data")
	}
	for _, ch := range changes {
		if len(ch.key) == 0 || len(ch.key) > MaxKey {
			return nil, fmt.Errorf("a key of %d bytes: it must have 1 to %d", len(ch.key), MaxKey)
		}
	}
	return changes, nil
}

var errOverflow = errors.New("the number does not fit into 64 bits")

// number reads a decimal number as INCR writes it.
func number(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errOverflow
	}
	if err != nil || strconv.FormatInt(n, 10) != string(text) {
		return 0, fmt.Errorf("%q is no whole number", text[:min(len(text), 64)])
	}
	return n, nil
}

// sum is a + b.
func sum(a, b int64) (int64, error) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, errOverflow
	}
	return a + b, nil
}
