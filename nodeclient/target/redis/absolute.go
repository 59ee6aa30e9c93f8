package redis

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient/target/command"
)

var errTime = errors.New("a time to live is no whole number in range")

// absolute rewrites what depends on a server's clock or layout, so that every node does the same whenever it applies the
// increment; ns is its broker time. The words belong to the increment and are not changed, only replaced.
//
//	EXPIRE PEXPIRE                      PEXPIREAT
//	SETEX PSETEX, SET ... EX|PX         SET ... PXAT
//	GETEX ... EX|PX                     GETEX ... PXAT
//	HEXPIRE HPEXPIRE                    HPEXPIREAT
//	RESTORE without ABSTTL              with
//	XADD *                              XADD <ms>-*, raised to the stream's last ID when that is later
//	XADD XTRIM ... MAXLEN|MINID ~       =
func (o *order) absolute(ns int64) error {
	at := clock(ns / 1e6)
	w := slices.Clone(o.words)
	var err error
	switch o.spec.name {
	case "EXPIRE":
		w[0], w[2] = []byte("PEXPIREAT"), at.plus(w[2], 1000, true)
	case "PEXPIRE":
		w[0], w[2] = []byte("PEXPIREAT"), at.plus(w[2], 1, true)
	case "HEXPIRE":
		w[0], w[2] = []byte("HPEXPIREAT"), at.plus(w[2], 1000, true)
	case "HPEXPIRE":
		w[0], w[2] = []byte("HPEXPIREAT"), at.plus(w[2], 1, true)
	case "SETEX":
		w = command.Command{[]byte("SET"), w[1], w[3], []byte("PXAT"), at.plus(w[2], 1000, false)}
	case "PSETEX":
		w = command.Command{[]byte("SET"), w[1], w[3], []byte("PXAT"), at.plus(w[2], 1, false)}
	case "SET":
		at.options(w, 3)
	case "GETEX":
		at.options(w, 2)
	case "HSETEX", "HGETEX":
		err = at.fieldOptions(w)
	case "RESTORE":
		w = at.restore(w)
	case "XADD", "XTRIM":
		w, o.id = at.stream(w, o.spec.name == "XADD")
	default:
		return nil
	}
	if err == nil && slices.ContainsFunc(w, func(word []byte) bool { return word == nil }) {
		err = fmt.Errorf("%s: %w", o.spec.name, errTime)
	}
	o.words = w
	return err
}

// clock is a broker time in milliseconds since 1970.
type clock int64

// plus is the time word units of unit milliseconds later; nil when that is no time, or, unless any is set, not above 0.
func (at clock) plus(word []byte, unit int64, any bool) []byte {
	n, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(word) || !any && n <= 0 ||
		n > (math.MaxInt64-int64(at))/unit || n < math.MinInt64/unit {
		return nil
	}
	return strconv.AppendInt([]byte{}, max(int64(at)+n*unit, 1), 10)
}

// options makes EX and PX among the options from index on absolute.
func (at clock) options(w command.Command, from int) {
	for i := from; i+1 < len(w); i++ {
		switch strings.ToUpper(string(w[i])) {
		case "EX":
			w[i], w[i+1] = []byte("PXAT"), at.plus(w[i+1], 1000, false)
			i++
		case "PX":
			w[i], w[i+1] = []byte("PXAT"), at.plus(w[i+1], 1, false)
			i++
		case "EXAT", "PXAT":
			i++
		}
	}
}

// fieldOptions is options for hashes of later servers: those before FIELDS.
func (at clock) fieldOptions(w command.Command) error {
	for i := 2; i < len(w); i++ {
		if strings.EqualFold(string(w[i]), "FIELDS") {
			at.options(w[:i], 2)
			return nil
		}
	}
	return errors.New("FIELDS is missing")
}

// restore makes the time to live of RESTORE absolute.
func (at clock) restore(w command.Command) command.Command {
	for _, option := range w[4:] {
		if strings.EqualFold(string(option), "ABSTTL") {
			return w
		}
	}
	if string(w[2]) == "0" {
		return w
	}
	w[2] = at.plus(w[2], 1, false)
	return append(w, []byte("ABSTTL"))
}

// stream makes the trimming of a stream exact and, for XADD, an ID of the server's choice one of the broker's time; id is the
// index of that from 1, or 0.
func (at clock) stream(w command.Command, add bool) (_ command.Command, id int) {
	for i := 2; i < len(w); i++ {
		switch strings.ToUpper(string(w[i])) {
		case "NOMKSTREAM":
		case "MAXLEN", "MINID":
			if i+1 < len(w) && (bytes.Equal(w[i+1], []byte("~")) || bytes.Equal(w[i+1], []byte("="))) {
				w[i+1] = []byte("=")
				i++
			}
			i++
		case "LIMIT": // belongs to ~
			w = slices.Delete(w, i, min(i+2, len(w)))
			i--
		default:
			if add && string(w[i]) == "*" {
				w[i] = strconv.AppendInt([]byte{}, int64(at), 10)
				w[i] = append(w[i], "-*"...)
				return w, i + 1
			}
			return w, 0
		}
	}
	return w, 0
}
