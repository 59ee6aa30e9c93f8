package postgres

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A rollback does not take back what nextval and setval have done, and a crash of the server lets a sequence jump
// ahead. So where each sequence stands is written beside the position, in the transaction that moves the position;
// and whenever the database may stand elsewhere (a new connection, a transaction that was not committed), all
// sequences are compared with that, and put back, before the next increment runs.
//
// Which sequences a transaction has moved is seen by its locks: nextval and setval take one, which stays to its end.
// Nothing but those is read, and a transaction that moved none writes nothing of them; where that would cost more
// than to read all, see direct.go.

// numbers is what a target knows of the sequences of its connection.
type numbers struct {
	settled bool          // they stand where the position says: nothing has happened since that was seen, or stored
	begun   bool          // they have been compared since the connection was made
	looked  time.Time     // when all of them were compared
	took    time.Duration // how long that took
	// known are the OIDs of those that have a name in the column sequences, or need none; never nil once there is a
	// position.
	known   map[string]bool
	foreign []string        // OIDs of those that others use
	first   map[string]kept // where they stood before the first increment, as long as there is no position
	direct  direct
	said    map[string]bool // sentences, so that none is said twice
	notices []string        // not yet taken
}

// lookEvery is how often, at most, all sequences are compared although nothing has happened: it shows who else uses
// them.
const lookEvery = 10 * time.Second

// due reports whether all sequences are to be compared before the next transaction. A comparison that takes long is
// made less often, so that it never takes more than a hundredth of the time.
func (n *numbers) due() bool {
	return !n.settled || time.Since(n.looked) > max(lookEvery, 100*n.took)
}

// learn remembers which sequences stand beside the position.
func (n *numbers) learn(all map[string]kept) {
	n.known, n.foreign = make(map[string]bool, len(all)), nil
	for _, k := range all {
		n.known[k.oid] = true
		if k.foreign {
			n.foreign = append(n.foreign, k.oid)
		}
	}
}

// beginSequences looks at the sequences when a target is opened. Trouble, and a place that is taken just now, are left
// to the first Apply.
func (t *Database) beginSequences(ctx context.Context) {
	results, err := t.pg.Exec(ctx, "BEGIN; SELECT pg_catalog.pg_try_advisory_xact_lock("+placeKey+"); COMMIT").ReadAll()
	if err == nil && len(results) == 3 && string(results[1].Rows[0][0]) == "t" {
		err = t.putBack(ctx, t.pg)
	}
	if err == nil {
		_ = t.sayShared(ctx, t.pg) // only for people
	}
}

// putAtOnce is how many sequences one transaction puts back: each holds a lock to its end.
const putAtOnce = 500

// putBack compares all sequences with what stands beside the position, and puts back those that differ; one of which
// nothing stands there is taken as it is. It gives an older table its columns. A sequence that differs although
// nothing has happened since the last time is used by another writer. It is a transaction, or several, of its own.
func (t *Database) putBack(ctx context.Context, c *pgconn.PgConn) error {
	began := time.Now()
	for done := false; !done; {
		var err error
		if done, err = t.putSome(ctx, c); err != nil {
			return passing(classify(fmt.Errorf("postgres: put the sequences back to where the position says: %w", err)))
		}
	}
	t.numbers.looked, t.numbers.took = time.Now(), time.Since(began)
	return nil
}

// placed counts the tables of the position.
const placed = "SELECT count(*) FROM pg_catalog.pg_class " +
	"WHERE oid = to_regclass('public.xmq_position') AND relkind = 'r'"

// putSome is one transaction of putBack. done says that nothing is left.
func (t *Database) putSome(ctx context.Context, c *pgconn.PgConn) (done bool, err error) {
	defer giveBack(ctx, c)
	results, err := c.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED; "+takePlace+"; "+placed).ReadAll()
	if err != nil {
		return false, err
	}
	n := &t.numbers
	stored, none, line := n.first, true, false
	if n.settled || !n.begun { // whoever prepares the database may have moved them
		stored = nil
	}
	there := string(results[len(results)-1].Rows[0][0]) != "0"
	if there {
		if err := addColumns(ctx, c); err != nil {
			return false, err
		}
		if rows, err := query(ctx, c, "SELECT FROM public.xmq_position LIMIT 2"); err != nil || len(rows) != 1 {
			return true, err // whoever reads the position tells
		}
		if stored, none, line, err = readKept(ctx, c); err != nil {
			return false, err
		}
	}
	all, err := list(ctx, c, "")
	if err != nil {
		return false, err
	}
	values, err := survey(ctx, c, all)
	if err != nil {
		return false, err
	}
	next, put := t.judge(all, values, stored)
	for _, l := range put[:min(len(put), putAtOnce)] {
		k := next[l.name]
		_, err := query(ctx, c, "SELECT pg_catalog.setval($1::oid::regclass, $2, $3)", l.oid,
			strconv.FormatInt(k.last, 10), strconv.FormatBool(k.called))
		if err != nil {
			return false, fmt.Errorf("set the sequence %s: %w", l.name, err)
		}
	}
	noted := false
	if there {
		if noted, err = t.notePath(ctx, c); err != nil {
			return false, err
		}
	}
	changed := there && (none || !maps.Equal(stored, next))
	if changed {
		if err := keep(ctx, c, next); err != nil {
			return false, err
		}
	}
	if changed || noted || len(put) > 0 {
		if err := execute(ctx, c, "COMMIT"); err != nil {
			return false, err
		}
	}
	n.direct = direct{barred: n.direct.barred, votes: n.direct.votes, line: line && !changed}
	if n.learn(next); !there {
		n.first = next
	}
	if len(put) > 0 {
		t.used = true // a currval would find what setval has left in the session
		if !n.begun {
			n.sayPut(put, values, next)
		}
	}
	n.begun = true
	n.settled = len(put) <= putAtOnce
	return n.settled, nil
}

// judge compares the sequences of a list: it returns what is to stand beside the position, and those that must be put
// there.
func (t *Database) judge(all []listed, values map[string]sequence, stored map[string]kept) (next map[string]kept,
	put []listed) {
	next = map[string]kept{}
	for _, l := range all {
		k, is := stored[l.name]
		at := kept{values[l.name].Last, values[l.name].Called, l.oid, false}
		switch {
		case l.why != "":
			t.sayUnkept(l)
			continue
		case !is && l.extension: // until an increment uses it
			continue
		case !is, k.last == at.last && k.called == at.called && !k.foreign:
		case k.foreign, t.numbers.settled, k.last < l.low, k.last > l.high: // others have moved it, or its bounds
			at = kept{oid: l.oid, foreign: true}
			t.numbers.say(usedByOthers(l.name))
		default:
			at.last, at.called = k.last, k.called
			put = append(put, l)
		}
		next[l.name] = at
	}
	return next, put
}

// Notices implements nodeclient.Noticer: what is wrong with sequences.
func (t *Database) Notices() []string {
	all := t.numbers.notices
	t.numbers.notices = nil
	return all
}

// say keeps a sentence for people.
func (n *numbers) say(sentence string) {
	if !n.said[sentence] {
		if n.said == nil {
			n.said = map[string]bool{}
		}
		n.said[sentence] = true
		n.notices = append(n.notices, sentence)
	}
}

// sayPut says what was put back on a new connection.
func (n *numbers) sayPut(put []listed, from map[string]sequence, to map[string]kept) {
	names := make([]string, len(put))
	for i, l := range put {
		names[i] = fmt.Sprintf("%s (from %d to %d)", l.name, from[l.name].Last, to[l.name].last)
	}
	n.say("sequences stood elsewhere than the increments had left them, and were put back: " + some(names) +
		". A batch that was cut off or a server that crashed explains that; otherwise another program uses them, " +
		"and numbers of copies will differ")
}

// some lists the first few of names.
func some(names []string) string {
	const few = 10
	if len(names) > few {
		return strings.Join(names[:few], ", ") + " and " + strconv.Itoa(len(names)-few) + " more"
	}
	return strings.Join(names, ", ")
}

// sayUnkept names a sequence that cannot be kept.
func (t *Database) sayUnkept(l listed) {
	switch {
	case l.extension:
	case l.why == cached:
		t.numbers.say("the sequence " + l.name + " gives its numbers to sessions in advance (CACHE above 1), and nobody " +
			"can put those back: its numbers may differ between nodes; publish ALTER SEQUENCE " + l.name + " CACHE 1")
	case l.why == forbidden:
		role := quoteName(t.cfg.User)
		t.numbers.say("the role " + role + " may not read or set the sequence " + l.name + ", so that it cannot be put " +
			"back after a crash: GRANT USAGE, SELECT, UPDATE ON SEQUENCE " + l.name + " TO " + role + ", and USAGE on its " +
			"schema")
	}
}

func usedByOthers(name string) string {
	return "another writer uses the sequence " + name + " of this database: its numbers differ from those of other " +
		"nodes, and it is not put back any more; end that writer, then let this node join again with a DUMP"
}

// grants asks which roles but the owner and this one may take numbers of sequences.
const grants = `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
	pg_catalog.string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'everybody'
		ELSE pg_catalog.pg_get_userbyid(a.grantee) END, ', ')
	FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, LATERAL pg_catalog.aclexplode(c.relacl) a
	WHERE a.privilege_type IN ('USAGE', 'UPDATE') AND a.grantee <> c.relowner
	AND a.grantee <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') GROUP BY 1 ORDER BY 1`

// sayShared names the sequences that others may use.
func (t *Database) sayShared(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := query(ctx, c, grants)
	if err != nil || len(rows) == 0 {
		return err
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row[0] + " (" + row[1] + ")"
	}
	t.numbers.say("other roles may take numbers of sequences, which makes copies differ when they do: " + some(names) +
		"; writers publish increments, and readers need neither USAGE nor UPDATE of a sequence")
	return nil
}
