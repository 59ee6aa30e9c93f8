package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// sequence is where a sequence stands.
type sequence struct {
	Name   string `json:"name"` // as SQL writes it, with its schema
	Last   int64  `json:"last"`
	Called bool   `json:"called"`
}

// kept is what stands beside the position for one sequence.
type kept struct {
	last    int64
	called  bool
	oid     string // as it was when this was written; it finds the value in the column moved
	foreign bool   // others use it: it is not put back
}

// MarshalJSON is [last, called, oid]; last is null for a sequence that others use, of which the rest is zero.
func (k kept) MarshalJSON() ([]byte, error) {
	oid, err := strconv.ParseUint(k.oid, 10, 32)
	if err != nil {
		return nil, err
	}
	if k.foreign {
		return json.Marshal([]any{nil, k.called, oid})
	}
	return json.Marshal([]any{k.last, k.called, oid})
}

func (k *kept) UnmarshalJSON(b []byte) error {
	var last *int64
	var oid uint32
	if err := json.Unmarshal(b, &[]any{&last, &k.called, &oid}); err != nil {
		return err
	}
	if k.foreign = last == nil; !k.foreign {
		k.last = *last
	}
	k.oid = strconv.FormatUint(uint64(oid), 10)
	return nil
}

// listed is a sequence as the catalogs describe it.
type listed struct {
	name, oid string
	low, high int64  // its bounds
	extension bool   // it belongs to one
	why       string // it cannot be kept; "" when it can
}

// The reasons why a sequence cannot be kept.
const (
	cached    = "cache" // sessions hold numbers of it in advance
	forbidden = "role"  // the role may not read or set it
)

// catalog lists the sequences of the database; a condition follows it.
const catalog = `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.oid,
	s.seqmin, s.seqmax,
	EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
	CASE WHEN s.seqcache > 1 THEN 'cache'
		WHEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') AND pg_catalog.has_sequence_privilege(c.oid, 'UPDATE')
		AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN '' ELSE 'role' END
	FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relpersistence <> 't'`

// list asks the catalogs.
func list(ctx context.Context, c *pgconn.PgConn, condition string, args ...string) (all []listed, err error) {
	rows, err := query(ctx, c, catalog+condition, args...)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		l := listed{name: row[0], oid: row[1], extension: row[4] == "t", why: row[5]}
		if l.low, err = strconv.ParseInt(row[2], 10, 64); err == nil {
			l.high, err = strconv.ParseInt(row[3], 10, 64)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// atOnce is how many sequences are read by one statement.
const atOnce = 200

// readSequences asks where sequences stand, in an open transaction. Unless it is to hold them, it gives their locks
// back when there are many: the server has room for some thousands.
func readSequences(ctx context.Context, c *pgconn.PgConn, names []string, hold bool) (all []sequence, err error) {
	hold = hold || len(names) <= atOnce
	for some := range slices.Chunk(names, atOnce) {
		parts := make([]string, len(some))
		for i, name := range some {
			parts[i] = "SELECT " + strconv.Itoa(i) + ", last_value, is_called FROM " + name
		}
		if !hold {
			if err := execute(ctx, c, "SAVEPOINT xmq_read"); err != nil {
				return nil, err
			}
		}
		rows, err := query(ctx, c, strings.Join(parts, " UNION ALL ")+" ORDER BY 1")
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			last, err := strconv.ParseInt(row[1], 10, 64)
			if err != nil {
				return nil, err
			}
			all = append(all, sequence{some[i], last, row[2] == "t"})
		}
		if !hold {
			if err := execute(ctx, c, "ROLLBACK TO xmq_read; RELEASE xmq_read"); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// survey reads where those of a list stand that can be kept, by name.
func survey(ctx context.Context, c *pgconn.PgConn, all []listed) (map[string]sequence, error) {
	var names []string
	for _, l := range all {
		if l.why == "" {
			names = append(names, l.name)
		}
	}
	read, err := readSequences(ctx, c, names, false)
	values := make(map[string]sequence, len(read))
	for _, s := range read {
		values[s.Name] = s
	}
	return values, err
}

// readKept reads what stands beside the position, which is one row, in an open transaction: by name. none says that
// nothing was ever written there, isLine that the last to write was moveDirect.
func readKept(ctx context.Context, c *pgconn.PgConn) (all map[string]kept, none, isLine bool, err error) {
	// There may be no such columns.
	rows, err := query(ctx, c, "SELECT pg_catalog.to_jsonb(p) ->> 'sequences', pg_catalog.to_jsonb(p) ->> 'moved' "+
		"FROM public.xmq_position p")
	if err != nil {
		return nil, false, false, err
	}
	all, moved := map[string]kept{}, map[string]int64{}
	text, line := rows[0][0], rows[0][1]
	if text != "" {
		err = json.Unmarshal([]byte(text), &all)
	}
	switch {
	case err != nil || line == "":
	case line[0] == '{':
		err = json.Unmarshal([]byte(line), &moved)
	default:
		moved, err = parseLine(line)
		isLine = true
	}
	if err != nil {
		return nil, false, false, fmt.Errorf("what stands beside the position for the sequences cannot be read: %w", err)
	}
	for name, k := range all {
		if last, is := moved[k.oid]; is && !k.foreign {
			k.last, k.called = last, true
			all[name] = k
		}
	}
	return all, text == "", isLine, nil
}

// keep writes all of them beside the position, in an open transaction.
func keep(ctx context.Context, c *pgconn.PgConn, all map[string]kept) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = query(ctx, c, "UPDATE public.xmq_position SET sequences = $1, moved = '{}'", string(text))
	return err
}

// keepAll writes all sequences beside the position as they stand, in an open transaction. It returns what it wrote, and
// what the catalogs say.
func keepAll(ctx context.Context, c *pgconn.PgConn) (map[string]kept, []listed, error) {
	stored, _, _, err := readKept(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	all, err := list(ctx, c, "")
	if err != nil {
		return nil, nil, err
	}
	values, err := survey(ctx, c, all)
	if err != nil {
		return nil, nil, err
	}
	next := map[string]kept{}
	for _, l := range all {
		if k, is := stored[l.name]; l.why == "" && (is || !l.extension) {
			next[l.name] = kept{values[l.name].Last, values[l.name].Called, l.oid, false}
			if k.foreign {
				next[l.name] = kept{oid: l.oid, foreign: true}
			}
		}
	}
	return next, all, keep(ctx, c, next)
}
