package postgres

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Once somebody has set a setting that no module has defined, such as app.user, the session knows it to its end: after
// a rollback and RESET ALL, too, current_setting('app.user', true) is '' and not NULL. No reset takes that back, so a
// session that has got to know one is closed after its transaction, and a batch in which that happens is applied one by
// one. The server lists such settings nowhere, so they are asked for by name before and after the steps: each name that
// stands in the text of a function of the database that sets something, or in that of an increment of its own. Where
// names are put together at run time and something of the database reads settings, nobody can ask: there each increment
// gets a session of its own.

// traces is what texts may leave in a session.
type traces struct {
	names  []string // settings that may be set, in lower case, none twice
	unseen bool     // one whose name nobody can read in the text may be set
	reads  bool     // settings may be read
	links  bool     // a connection to another database may be left open
}

// remains is what a target knows of that.
type remains struct {
	traces
	since     time.Time // when the catalogs were asked; zero when they have to be
	functions bool      // the database had functions then
	had       bool      // an increment with its session has set what nobody can ask for
	stays     bool      // something that no reset takes back may have stayed in the session
	ended     bool      // the session was closed for that
	// last is what probing has answered last in this session, for the names asked.
	last  string
	asked string
}

// maxNames is how many names are asked for: where there are more, nobody asks.
const maxNames = 200

var (
	dotted = regexp.MustCompile(`^[a-z_][\w$]*(\.[a-z_][\w$]*)+$`)
	// what is set: by set_config, whose first argument is a literal or not, and by SET
	calls    = regexp.MustCompile(`set_config\s*\(\s*(?:'{1,2}([\w$.]+)'{1,2}\s*,)?`)
	settings = regexp.MustCompile(`\bset(?:\s+(?:local\s+|session\s+)?|/)([\w$."]*)(\s*=|\s+to\b|\s+from\b)?(\s*.)?`)
	reading  = regexp.MustCompile(`current_setting|(?:^|'|;|\bin)\s*show\s`)
	linking  = regexp.MustCompile(`dblink_(connect|open)`)
)

// mayTrace reports whether a text, in lower case, has a word that traces know.
func mayTrace(lower string) bool {
	return strings.Contains(lower, "set") || strings.Contains(lower, "show")
}

// add takes what a text, in lower case, may do.
func (t *traces) add(lower string) {
	t.reads = t.reads || reading.MatchString(lower)
	t.links = t.links || linking.MatchString(lower)
	for _, m := range calls.FindAllStringSubmatch(lower, -1) {
		if m[1] == "" {
			t.unseen = true
		} else {
			t.name(m[1])
		}
	}
	for _, m := range settings.FindAllStringSubmatchIndex(lower, -1) {
		name, sets := strings.ReplaceAll(lower[m[2]:m[3]], `"`, ""), m[4] >= 0
		next := ""
		if m[6] >= 0 {
			next = strings.TrimSpace(lower[m[6]:m[7]])
		}
		switch {
		case sets && dotted.MatchString(name):
			t.name(name)
		case sets && !strings.Contains(name, "."), ofUpdate(lower[:m[0]]):
		case name == "" && (next == "(" || next == ","): // columns
		case name == "", strings.Contains(name, "."), next == "'", next == "%", next == "|":
			t.unseen = true
		}
	}
}

// ofUpdate reports whether a SET after text is that of an UPDATE or ALTER, which sets nothing in the session.
func ofUpdate(text string) bool {
	text = text[strings.LastIndexByte(text, ';')+1:]
	return strings.Contains(text, "update") || strings.Contains(text, "alter")
}

// name adds one; settings that the server itself defines have no dot.
func (t *traces) name(name string) {
	switch {
	case !strings.Contains(name, ".") || slices.Contains(t.names, name):
	case !dotted.MatchString(name) || len(t.names) == maxNames:
		t.unseen = true
	default:
		t.names = append(t.names, name)
	}
}

// none reports that there are none.
func (t *traces) none() bool { return !t.unseen && !t.reads && !t.links && len(t.names) == 0 }

// join takes those of other texts.
func (t *traces) join(other traces) {
	t.unseen, t.reads, t.links = t.unseen || other.unseen, t.reads || other.reads, t.links || other.links
	for _, name := range other.names {
		t.name(name)
	}
}

// askTexts lists what functions of the database can leave in a session or read there: whether nobody here reads their
// language, their text, the names of what their own SET clauses set, and their own.
const askTexts = `SELECT l.lanname NOT IN ('sql', 'plpgsql'), p.prosrc, coalesce((SELECT
	pg_catalog.string_agg(pg_catalog.split_part(s, '=', 1), ' ') FROM pg_catalog.unnest(p.proconfig) s), ''),
	p.oid::regproc
	FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
	WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND (l.lanname NOT IN ('sql', 'plpgsql') OR
		p.proconfig IS NOT NULL OR p.prosrc ~* 'set_config|current_setting|\mset[\s/]|\mshow\s|dblink_')`

// askCalls asks the same of expressions: whether they set, and whether they read.
var askCalls = "SELECT " + calledIn("set_config") + " OR " + calledInBodies("set_config") + ", " +
	calledIn("current_setting") + " OR " + calledInBodies("current_setting")

// askEvery is how often the catalogs are asked although no increment has made anything: others may have made functions,
// too.
const askEvery = time.Minute

// learnRemains finds out, in an open transaction, what functions and expressions of the database may leave in
// the session.
func (t *Database) learnRemains(ctx context.Context, c *pgconn.PgConn, found place) error {
	r := &t.remains
	if r.functions == found.functions && !r.since.IsZero() && time.Since(r.since) < askEvery {
		return nil
	}
	var all traces
	texts, err := query(ctx, c, askTexts)
	unseen := ""
	for _, row := range texts {
		if row[0] == "t" {
			all.unseen, all.reads = true, true
		}
		all.add(strings.ToLower(row[1]))
		for name := range strings.FieldsSeq(row[2]) {
			all.name(strings.ToLower(name))
		}
		if all.unseen && unseen == "" {
			unseen = row[3]
		}
	}
	var rows [][]string
	if err == nil {
		rows, err = query(ctx, c, askCalls)
	}
	if err != nil {
		return passing(classify(fmt.Errorf("postgres: look for what functions leave in the session: %w", err)))
	}
	all.unseen, all.reads = all.unseen || rows[0][0] != "f", all.reads || rows[0][1] != "f"
	r.traces, r.since, r.functions = all, time.Now(), found.functions
	if all.unseen && all.reads && unseen != "" {
		t.numbers.say("the function " + unseen + " may set settings whose names cannot be read in its text, and " +
			"something of the database reads settings: each increment gets a session of its own, which takes about 20 ms; " +
			"write such names as literals")
	}
	return nil
}

// probing asks for settings by name: what they are, and which of them the session does not know.
const probing = "SELECT pg_catalog.array_agg(pg_catalog.current_setting(n, true)) FROM pg_catalog.unnest($1::text[]) n"

// probe is that, or changed, for names.
func probe(text string, names []string) statement {
	return statement{text: text, args: [][]byte{[]byte("{" + strings.Join(names, ",") + "}")}}
}

// of are the traces that steps may leave; a step that stands alone has some of its own.
func (r *remains) of(steps []step) traces {
	all := r.traces
	if w := steps[0].Work; len(steps) == 1 && w.alone {
		all.names = slices.Clone(all.names)
		all.join(w.traces)
	}
	return all
}

// apart reports that steps must be applied one by one: nobody can ask what one of them leaves to the next.
func (r *remains) apart(steps []step) bool {
	return len(steps) > 1 && (r.unseen && r.reads || r.links)
}

// knows returns what probing would answer for names before the next steps, as far as that is known.
func (r *remains) knows(names []string) (answer string, known bool) {
	if len(names) == 0 {
		return "", true
	}
	return r.last, r.asked == strings.Join(names, ",")
}

// ends takes what is known after a transaction of steps; failed says that it came to nothing, so that nobody has asked.
func (r *remains) ends(steps []step, what touched, failed bool) {
	all := r.of(steps)
	r.last, r.asked = what.settings, strings.Join(all.names, ",")
	if w := steps[0].Work; len(steps) == 1 && w.creates && !w.traces.none() {
		r.join(w.traces)
		r.since = time.Time{}
	}
	r.had = r.had || all.unseen
	r.stays = r.stays || what.set || all.unseen && all.reads || all.links || failed && (all.unseen || len(all.names) > 0)
}

// renew closes the session when what was left in it may reach steps.
func (t *Database) renew(steps []step) {
	r := &t.remains
	if t.pg != nil && (r.stays || r.had && steps[0].Work.traces.reads) {
		t.endSession()
	}
}

// endSession closes the session, but keeps what is known of the database.
func (t *Database) endSession() {
	closeConn(t.pg)
	t.remains.ended = true
}

// begins takes that a new session begins: where the last one was lost, the database may be another.
func (r *remains) begins() {
	if !r.ended {
		r.since = time.Time{}
	}
	r.had, r.stays, r.ended, r.asked = false, false, false, ""
}

// askedOf reads the answer to probing.
func askedOf(p *pgconn.Pipeline, st statement) (string, error) {
	reader, err := next(p, st.prepared)
	if err != nil {
		return "", err
	}
	r := reader.Read()
	if r.Err != nil || len(r.Rows) != 1 {
		return "", said(r.Err)
	}
	return string(r.Rows[0][0]), nil
}
