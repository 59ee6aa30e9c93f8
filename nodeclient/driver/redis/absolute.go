package redis

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient/driver/internal/commands"
)

var errTime = errors.New("a time to live is no whole number in range")

// How a script treats a command, beyond calling it.
const (
	raises  = 'i' // a word is the ID of a stream that may have to be raised
	ends    = 't' // a word is the time that ends its keys; what it answers says whether it holds now
	unsaid  = 'x' // as ends, but its answer does not say it
	greater = 'g' // as ends, when that is later than the time the key has
	less    = 'l' // as ends, when that is earlier
	moves   = 'm' // its second key gets what the first one has
	empties = 'f' // it deletes all keys
)

// absolute rewrites what depends on a server's clock or layout, so that every node does the same whenever it applies
// the increment; ns is its broker time. The words belong to the increment and are not changed, only replaced. A time
// that ends a key becomes one in ms since 1970, which the script compares with those of the log (see ending).
//
//	EXPIRE PEXPIRE EXPIREAT             PEXPIREAT, without GT and LT
//	SETEX PSETEX, SET ... EX|PX|EXAT    SET ... PXAT
//	GETEX and MSETEX ... EX|PX|EXAT     ... PXAT
//	RESTORE without ABSTTL              with
//	XADD *                              XADD <ms>-*, raised to the stream's last ID when that is later
//	XADD XTRIM ... MAXLEN|MINID ~       =
func (o *order) absolute(ns int64) error {
	at := clock(ns / 1e6)
	w := slices.Clone(o.words)
	var err error
	switch o.spec.name {
	case "EXPIRE":
		w, err = o.mortal(w, at.plus(w[2], 1000, true))
	case "PEXPIRE":
		w, err = o.mortal(w, at.plus(w[2], 1, true))
	case "EXPIREAT":
		w, err = o.mortal(w, clock(0).plus(w[2], 1000, true))
	case "PEXPIREAT":
		w, err = o.mortal(w, clock(0).plus(w[2], 1, true))
	case "SETEX":
		w = commands.Command{[]byte("SET"), w[1], w[3], []byte("PXAT"), at.plus(w[2], 1000, false)}
		o.how, o.word = ends, 4
	case "PSETEX":
		w = commands.Command{[]byte("SET"), w[1], w[3], []byte("PXAT"), at.plus(w[2], 1, false)}
		o.how, o.word = ends, 4
	case "SET":
		err = o.options(at, w, 3)
	case "GETEX":
		err = o.options(at, w, 2)
	case "MSETEX":
		if n, bad := strconv.Atoi(string(w[1])); bad == nil && n > 0 && n < len(w)/2 {
			err = o.options(at, w, 2+2*n)
		}
	case "RESTORE":
		w = o.restore(at, w)
	case "RENAME", "RENAMENX", "COPY":
		o.how = moves
	case "FLUSHDB":
		o.how = empties
	case "XADD", "XTRIM":
		if w, o.word = at.stream(w, o.spec.name == "XADD"); o.word > 0 {
			o.how = raises
		}
	default:
		return nil
	}
	if err == nil && slices.ContainsFunc(w, func(word []byte) bool { return word == nil }) {
		err = fmt.Errorf("%s: %w", o.spec.name, errTime)
	}
	o.words = w
	return err
}

// timed reports whether the command gives a key a time.
func (o order) timed() bool {
	return o.how == ends || o.how == unsaid || o.how == greater || o.how == less
}

// mortal makes PEXPIREAT of the four commands that give a key a time. GT and LT, which compare with the time the key
// has, are the script's: that time is the log's.
func (o *order) mortal(w commands.Command, till []byte) (commands.Command, error) {
	out := commands.Command{[]byte("PEXPIREAT"), w[1], till}
	o.how, o.word = ends, 2
	has := make(map[string]bool)
	for _, word := range w[3:] {
		option := strings.ToUpper(string(word))
		switch has[option] = true; option {
		case "NX", "XX":
			out = append(out, word)
		case "GT":
			o.how = greater
		case "LT":
			o.how = less
		default:
			return w, fmt.Errorf("%s: unsupported option %.40q", o.spec.name, word)
		}
	}
	if has["NX"] && len(has) > 1 || has["GT"] && has["LT"] {
		return w, fmt.Errorf("%s: NX and XX, GT or LT, or GT and LT, exclude each other", o.spec.name)
	}
	return out, nil
}

// options makes a time among the options from index on absolute.
func (o *order) options(at clock, w commands.Command, from int) error {
	answers := false // with the old value
	for i := from; i < len(w); i++ {
		option := strings.ToUpper(string(w[i]))
		if i+1 == len(w) && option != "GET" {
			break // the server knows it, or says that something is missing
		}
		switch option {
		case "GET":
			answers = true
		case "IFEQ", "IFNE", "IFDEQ", "IFDNE":
			i++
		case "EX", "PX", "EXAT", "PXAT":
			if o.how == ends {
				return fmt.Errorf("%s: syntax error: more than one time to live", o.spec.name)
			}
			unit, from := int64(1), at
			if option[0] == 'E' {
				unit = 1000
			}
			if len(option) == 4 {
				from = 0
			}
			w[i], w[i+1] = []byte("PXAT"), from.plus(w[i+1], unit, false)
			o.how, o.word = ends, i+1
			i++
		}
	}
	if answers && o.how == ends {
		o.how = unsaid
	}
	return nil
}

// clock is a broker time in milliseconds since 1970.
type clock int64

// plus is the time word units of unit milliseconds later, maxTime at most; nil when that is no time, or, unless any is
// set, not above 0.
func (at clock) plus(word []byte, unit int64, any bool) []byte {
	n, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(word) || !any && n <= 0 ||
		n > (math.MaxInt64-int64(at))/unit || n < math.MinInt64/unit {
		return nil
	}
	return strconv.AppendInt([]byte{}, min(max(int64(at)+n*unit, 1), maxTime), 10)
}

// restore makes the time to live of RESTORE absolute.
func (o *order) restore(at clock, w commands.Command) commands.Command {
	if string(w[2]) == "0" {
		return w
	}
	o.how, o.word = ends, 2
	for _, option := range w[4:] {
		if strings.EqualFold(string(option), "ABSTTL") {
			w[2] = clock(0).plus(w[2], 1, false)
			return w
		}
	}
	w[2] = at.plus(w[2], 1, false)
	return append(w, []byte("ABSTTL"))
}

// stream makes the trimming of a stream exact and, for XADD, an ID of the server's choice one of the broker's time;
// id is the index of that from 1, or 0.
func (at clock) stream(w commands.Command, add bool) (_ commands.Command, id int) {
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
