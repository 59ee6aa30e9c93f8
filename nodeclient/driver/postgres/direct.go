package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// To find the sequences that a transaction has moved by its locks (move) costs more than to read all of them, where
// it moves most. So plain DML in a database without functions of its own, where nothing but nextval can have moved one,
// writes where all of them stand, in one line, when the transactions before have moved most of them: moveDirect. Which
// they are is asked once, and again when something else has run or the catalog of sequences is another.

// direct is what a target knows for that.
type direct struct {
	oids   []string // of all sequences that stand beside the position and may be read
	sum    string   // of the OIDs of all sequences of the database, when that was asked
	asked  bool     // it was asked; no OIDs say that they cannot be written in this way
	barred bool     // the server has refused it: until something else than plain DML has run
	line   bool     // the column moved holds such a line
	was    []string // the values of the last one
	votes  int      // for doing so: up with each transaction that has moved most sequences, down with others
}

// The votes from which on sequences are written in one line, and beyond which none is counted: changing the form costs
// something, too.
const (
	enoughVotes = 4
	allVotes    = 8
)

// vote counts a transaction that has moved so many sequences of all.
func (d *direct) vote(moved, all int) {
	if all > atLeast && 2*moved >= all {
		d.votes = min(d.votes+1, allVotes)
	} else {
		d.votes = max(d.votes-1, 0)
	}
}

// atLeast is how many sequences a database has when it is worth the trouble.
const atLeast = 16

// fewSequences is how many are read all at once: beyond, locks are cheaper.
const fewSequences = 300

// sumSequences tells whether sequences have come or gone, as far as there are few.
var sumSequences = "(SELECT coalesce(pg_catalog.sum(seqrelid::bigint), 0) FROM (SELECT seqrelid FROM " +
	"pg_catalog.pg_sequence " +
	"LIMIT " + strconv.Itoa(fewSequences+1) + ") s)"

// anySequence tells only whether there is one, in less time.
const anySequence = "(SELECT pg_catalog.count(*) FROM (SELECT FROM pg_catalog.pg_sequence LIMIT 1) s)"

// moveDirect moves the position and writes where the sequences of $8 stand: version, OIDs, values; NULL is one that was
// not used yet, whose value stands in the column sequences.
const moveDirect = `UPDATE public.xmq_position SET log_id = $1, seq = $2, chain = $3,
	updated_at = coalesce($4, updated_at),
	moved = pg_catalog.to_jsonb('1 ' || $8::text || ' ' || (ARRAY(SELECT pg_catalog.pg_sequence_last_value(o)
		FROM pg_catalog.unnest($8::text::oid[]) o))::text)
	WHERE log_id = $5 AND seq = $6 AND chain = $7 RETURNING moved #>> '{}'`

// errDirect says that moveDirect was refused, so that the locks are asked instead.
var errDirect = errors.New("the sequences cannot all be read")

// askDirect lists the sequences that can be kept; none where one has no place beside the position, or where rules,
// defaults or the like call setval (which may leave a sequence as if it had not been used).
var askDirect = `SELECT s.seqrelid FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
	WHERE c.relpersistence <> 't' AND s.seqcache = 1 AND pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
	AND NOT ` + calledIn("setval") + "\n" +
	"LIMIT " + strconv.Itoa(fewSequences+1)

// chooseDirect decides, in the open transaction whose steps have not run, how they are to write down where sequences
// stand, and brings the column moved into the form that it takes. It reports whether by moveDirect.
func (t *Database) chooseDirect(ctx context.Context, c *pgconn.PgConn, found place, steps []step) (bool, error) {
	n := &t.numbers
	d := &n.direct
	if steps[0].Work.alone {
		*d = direct{line: d.line, votes: d.votes}
	}
	can := (d.votes >= enoughVotes || d.line && d.votes > 0) && !steps[0].Work.alone && !found.functions && !d.barred &&
		!slices.ContainsFunc(steps, func(s step) bool { return s.Work.sets })
	if can && (!d.asked || d.sum != found.sequences) {
		rows, err := query(ctx, c, askDirect)
		if err != nil {
			return false, err
		}
		d.oids, d.sum, d.asked = nil, found.sequences, true
		for _, row := range rows {
			if !n.known[row[0]] || len(rows) > fewSequences {
				d.oids = nil
				break
			}
			if !slices.Contains(n.foreign, row[0]) {
				d.oids = append(d.oids, row[0])
			}
		}
	}
	can = can && len(d.oids) > 0
	if can == d.line {
		return can, nil
	}
	all, _, _, err := readKept(ctx, c)
	if err == nil {
		err = keep(ctx, c, all)
	}
	d.line, d.was = can, nil
	return can, err
}

// wrote takes a line that moveDirect has written.
func (d *direct) wrote(line string) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return
	}
	values := strings.Split(fields[2], ",")
	moved := 0
	for i, v := range values {
		if i >= len(d.was) || v != d.was[i] {
			moved++
		}
	}
	d.was = values
	d.vote(moved, len(values))
}

// parseLine reads what moveDirect has written.
func parseLine(line string) (map[string]int64, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "1" {
		return nil, fmt.Errorf("%.40q is not of version 1", line)
	}
	oids, values := strings.Split(strings.Trim(fields[1], "{}"), ","), strings.Split(strings.Trim(fields[2], "{}"), ",")
	if len(oids) != len(values) {
		return nil, fmt.Errorf("it has %d sequences and %d values", len(oids), len(values))
	}
	all := make(map[string]int64, len(oids))
	for i, oid := range oids {
		if values[i] == "NULL" {
			continue
		}
		last, err := strconv.ParseInt(values[i], 10, 64)
		if err != nil {
			return nil, err
		}
		all[oid] = last
	}
	return all, nil
}
