package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient/driver/internal/snapstream"
)

// preface is what stands before the archive of a snapshot, as JSON: what pg_dump does not say of the database, and
// where its sequences stood when the snapshot was opened.
type preface struct {
	Encoding  string     `json:"encoding"` // "" in the first format: as the receiver's database
	Provider  string     `json:"provider"` // of the default collation: c, i (ICU) or b; "" before version 15
	Collate   string     `json:"collate"`
	Ctype     string     `json:"ctype"`
	Locale    string     `json:"locale,omitempty"` // of ICU, or of what is built in
	Rules     string     `json:"rules,omitempty"`  // of ICU
	Sequences []sequence `json:"sequences,omitempty"`
	Role      string     `json:"role,omitempty"`        // of the node
	Path      string     `json:"search_path,omitempty"` // in which increments found what they named without a schema
}

// readPreface reads it in the transaction of a snapshot. What stands beside the position for a sequence is what belongs
// to it, wherever the sequence itself stands.
func readPreface(ctx context.Context, c *pgconn.PgConn, stored map[string]kept) ([]byte, error) {
	rows, err := query(ctx, c, locales)
	if err != nil {
		return nil, err
	}
	p := preface{Encoding: rows[0][0], Collate: rows[0][1], Ctype: rows[0][2], Provider: rows[0][3], Locale: rows[0][4],
		Rules: rows[0][5], Path: rows[0][6], Role: rows[0][7]}
	rows, err = query(ctx, c, "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) "+fmt.Sprintf(relations, "'S'")+
		" ORDER BY 1")
	if err != nil {
		return nil, err
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row[0]
	}
	if p.Sequences, err = readSequences(ctx, c, names, true); err != nil {
		return nil, err
	}
	for i, s := range p.Sequences {
		if k, is := stored[s.Name]; is && !k.foreign {
			p.Sequences[i].Last, p.Sequences[i].Called = k.last, k.called
		}
	}
	return json.Marshal(p)
}

// locales asks for encoding, collate, ctype, provider, locale and rules of the database; the columns of some depend
// on the version.
const locales = "SELECT pg_encoding_to_char(encoding), datcollate, datctype, coalesce(r->>'datlocprovider', ''), " +
	"coalesce(r->>'datlocale', r->>'daticulocale', ''), " +
	"coalesce(r->>'daticurules', ''), pg_catalog.current_setting('search_path'), session_user FROM " +
	"pg_catalog.pg_database d, to_jsonb(d) r WHERE datname = current_database()"

// setvals is the preface of the first format, whose lines were SQL.
var setvals = regexp.MustCompile(`^SELECT pg_catalog\.setval\('((?:[^'\\]|'')+)', '?(-?[0-9]+)'?, ` +
	`'?(t|f|true|false)'?\);$`)

// parsePreface takes a preface of either format as data.
func parsePreface(h snapstream.Head) (p preface, err error) {
	if h.Version > 1 {
		if err := json.Unmarshal(h.Preface, &p); err != nil {
			return p, fmt.Errorf("what stands before the archive cannot be read: %v: %w", err, event.ErrDamaged)
		}
		return p, nil
	}
	for line := range strings.Lines(string(h.Preface)) {
		m := setvals.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			return p, fmt.Errorf("the snapshot sets its sequences by %.60q: %w", line, event.ErrDamaged)
		}
		last, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return p, fmt.Errorf("the snapshot sets a sequence to %s: %w", m[2], event.ErrDamaged)
		}
		p.Sequences = append(p.Sequences, sequence{strings.ReplaceAll(m[1], "''", "'"), last, m[3][0] == 't'})
	}
	return p, nil
}

// set puts the sequences where they stood.
func (p preface) set(ctx context.Context, c *pgconn.PgConn) error {
	for _, s := range p.Sequences {
		if _, err := query(ctx, c, "SELECT pg_catalog.setval($1, $2, $3)", s.Name, strconv.FormatInt(s.Last, 10),
			strconv.FormatBool(s.Called)); err != nil {
			return fmt.Errorf("set the sequence %s: %w", s.Name, err)
		}
	}
	return nil
}

// options are those of CREATE DATABASE.
func (p preface) options() string {
	if p.Encoding == "" {
		return ""
	}
	options := " ENCODING " + quoteText(p.Encoding) + " LC_COLLATE " + quoteText(p.Collate) + " LC_CTYPE " +
		quoteText(p.Ctype)
	switch p.Provider {
	case "i":
		options += " LOCALE_PROVIDER icu ICU_LOCALE " + quoteText(p.Locale)
	case "b":
		options += " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + quoteText(p.Locale)
	case "c":
		options += " LOCALE_PROVIDER libc"
	}
	if p.Rules != "" {
		options += " ICU_RULES " + quoteText(p.Rules)
	}
	return options
}

// quoteText quotes a text; a backslash stands for itself.
func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
