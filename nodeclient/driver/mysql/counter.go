package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// counters is what a target knows of AUTO_INCREMENT and sequences, which a rollback does not take back and a crash
// may move. Where they belong stands beside the position: a JSON object in xmq_position.counters. The counter of a
// table belongs at what stands there, or one more than the largest value of its column where that is more: so the
// object changes only in transactions whose statements may leave it elsewhere (touch.exact). A sequence belongs
// exactly where the object says.
type counters struct {
	reach   *reach     // nil: not known
	sure    bool       // they stand where they belong
	ours    bool       // if not, then because of what this target has begun and not committed
	gave    []int      // how many numbers each gave since what is stored of it was exact (reach.follow); while sure
	token   hold.Token // of the session that holds the database; see under
	notices []string
}

// learnt keeps what is known of the database, and names what cannot be put back, once.
func (t *Database) learnt(r *reach) {
	for _, c := range r.counters {
		known := t.counters.reach != nil && slices.Contains(t.counters.reach.counters, c)
		if c.cache > 1 && !known {
			t.notice("the sequence %[1]s has CACHE %[2]d, so that its numbers jump on one node and not on others "+
				"when a server stops or closes it: "+
				"publish ALTER SEQUENCE %[1]s NOCACHE", quoteName(c.name), c.cache)
		}
	}
	t.counters.reach, t.counters.gave = r, nil
}

// nameCounters names at the start what of generated numbers cannot be put back.
func (t *Database) nameCounters(ctx context.Context) error {
	rows, err := t.s.query(ctx, "SELECT @@innodb_autoinc_lock_mode")
	var r *reach
	if err == nil {
		r, err = learnReach(ctx, t.s)
	}
	if err != nil {
		return classify(fmt.Errorf("mysql: look at what generates numbers: %w", err))
	}
	if rows[0][0] == "0" {
		t.notice("the server runs with innodb_autoinc_lock_mode=0, under which other numbers are left out than by " +
			"default: all nodes must, or none")
	}
	t.learnt(r)
	return nil
}

// forget says that nothing is known of the database, which may be another one.
func (c *counters) forget() { c.sure, c.ours, c.reach, c.gave = false, false, nil, nil }

// under says by which session the node holds the database now. Nothing is sure of what was known under another one:
// between the two the server may have been started anew, which moves counters, or somebody else may have moved them.
// The time at which a server was started would not tell: it has no more than the second.
func (c *counters) under(token hold.Token) {
	if token != c.token {
		c.sure, c.gave, c.token = false, nil, token
	}
}

// belong is a table of the counters in JSON, as xmq_position.counters keeps it.
type belong map[string]json.Number

// recorded is the part of an UPDATE that stores where counters stand: "" when nothing is to be told of them.
func recorded(values string) string {
	if values == "" {
		return ""
	}
	return ", counters = JSON_MERGE_PATCH(coalesce(counters, '{}'), " + values + ")"
}

// recounted is recorded for all of them. openAll goes before.
func (t *Database) recounted() string {
	values := t.counters.reach.value(t.cfg.DBName, t.counters.reach.everything(), nil)
	if values == "" {
		values = "'{}'"
	}
	return ", counters = JSON_MERGE_PATCH('{}', " + values + ")"
}

// upgrade adds the columns that the position table of an earlier revision lacks. The server commits that at once;
// empty ones say what none say.
func upgrade(ctx context.Context, s *session) error {
	rows, err := s.query(ctx, "SELECT column_name FROM information_schema.columns WHERE table_schema = database() "+
		"AND table_name = '"+table+"'")
	if err != nil {
		return err
	}
	var missing []string
	for _, column := range addedColumns {
		name, _, _ := strings.Cut(column, " ")
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[0] == name }) {
			missing = append(missing, "ADD COLUMN "+column)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.do(ctx, "ALTER TABLE "+table+" "+strings.Join(missing, ", "))
}

// putBack puts every counter where it belongs, but for the tables that except names: what became of those is not
// known. A position table that does not say it learns where they stand. It waits for a session that still moves them.
func (t *Database) putBack(ctx context.Context, s *session, except []string) error {
	err := t.compareCounters(ctx, s, except)
	if err == nil {
		t.counters.sure, t.counters.ours, t.counters.gave = true, false, nil
		return nil
	}
	if nodeclient.IsTransient(err) || nodeclient.IsFatal(err) {
		return err
	}
	return nodeclient.Transient(fmt.Errorf("mysql: put generated numbers back to where the position says: %w", err))
}

// compareCounters is putBack that does not say what follows from an error.
func (t *Database) compareCounters(ctx context.Context, s *session, except []string) error {
	defer t.giveBack(ctx, s)
	p, err := t.learnCounters(ctx, s)
	if err != nil {
		return err
	}
	rows, err := s.query(ctx, "SELECT coalesce(counters, ''), coalesce(counters_seq, '') FROM "+table)
	if err != nil {
		return err
	}
	// not known, or of another position: as they are
	if rows[0][0] == "" || rows[0][1] != strconv.FormatUint(p.pos.Seq, 10) {
		return t.recount(ctx, s)
	}
	var stored belong
	if err := json.Unmarshal([]byte(rows[0][0]), &stored); err != nil {
		return fmt.Errorf("read where they belong: %w", err)
	}
	states, err := t.states(ctx, s)
	if err != nil {
		return err
	}
	var back []state
	var fresh []int
	for i, c := range t.counters.reach.counters {
		if slices.Contains(except, strings.ToLower(c.name)) {
			continue
		}
		st := states[i]
		want, known := stored[c.name]
		if !known { // nobody has told the position of it: as it is
			fresh = append(fresh, i)
			continue
		}
		if differs, err := st.differs(want); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		} else if differs {
			back = append(back, st)
		}
	}
	if len(fresh) > 0 {
		if err := s.do(ctx, "UPDATE "+table+" SET counters_seq = "+
			"seq"+recorded(t.counters.reach.value(t.cfg.DBName, fresh, nil))); err != nil {
			return err
		}
	}
	return t.alterCounters(ctx, s, back)
}

// adoptCounters takes counters for right as they stand, where somebody has passed over a change of the schema that
// may have moved them.
func (t *Database) adoptCounters(ctx context.Context, s *session, _ place) error {
	defer t.giveBack(ctx, s)
	_, err := t.learnCounters(ctx, s)
	if err == nil {
		err = t.recount(ctx, s)
	}
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: store where generated numbers stand: %w", err))
	}
	t.counters.sure = true
	return nil
}

// learnCounters waits for the place, which it keeps locked, and reads which counters there are.
func (t *Database) learnCounters(ctx context.Context, s *session) (place, error) {
	p, err := t.look(ctx, s)
	if err == nil && p.missing {
		err = errors.New("the table of the position is gone")
	}
	if err == nil {
		err = upgrade(ctx, s)
	}
	var r *reach
	if err == nil {
		r, err = learnReach(ctx, s)
	}
	if err == nil {
		t.learnt(r)
	}
	return p, err
}

// openAll makes a server that needs it look at all tables, so that it knows where their counters stand.
func (t *Database) openAll(ctx context.Context, s *session) error {
	var script []string
	for _, c := range t.counters.reach.counters {
		if t.flavour.closed {
			script = append(script, "SELECT 1 FROM "+quoteName(c.name)+" LIMIT 0")
		}
	}
	for part := range slices.Chunk(script, atOnce) {
		if err := s.do(ctx, strings.Join(part, "; ")); err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how many questions go out in one packet.
const atOnce = 500

// recount stores where all counters stand.
func (t *Database) recount(ctx context.Context, s *session) error {
	if err := t.openAll(ctx, s); err != nil {
		return err
	}
	return s.do(ctx, "UPDATE "+table+" SET counters_seq = seq"+t.recounted())
}

// state is where a counter stands, and where it belongs.
type state struct {
	counter
	now     string
	largest string // value of the column
	wants   string
}

// states are those of all counters.
func (t *Database) states(ctx context.Context, s *session) ([]state, error) {
	r := t.counters.reach
	all := make([]state, len(r.counters))
	var script []string
	for i, c := range r.counters {
		all[i] = state{counter: c}
		if c.column == "" {
			script = append(script, "SELECT next_not_cached_value FROM "+quoteName(c.name))
		} else {
			script = append(script, "SELECT coalesce(max("+quoteName(c.column)+"), 0) FROM "+quoteName(c.name))
		}
	}
	at := 0
	for part := range slices.Chunk(script, atOnce) {
		sets, err := s.results(ctx, strings.Join(part, "; "))
		if err != nil {
			return nil, err
		}
		for _, set := range sets {
			if st := &all[at]; st.column == "" {
				st.now = set[0][0]
			} else {
				st.largest = set[0][0]
			}
			at++
		}
	}
	// The tables are open now: see openAll.
	rows, err := s.query(ctx, "SELECT table_name, "+nextNumber+" FROM information_schema.tables "+
		"WHERE table_schema = database()")
	if err != nil {
		return nil, err
	}
	now := map[string]string{}
	for _, row := range rows {
		now[row[0]] = row[1]
	}
	for i := range all {
		if all[i].column != "" {
			all[i].now = now[all[i].name]
		}
	}
	return all, nil
}

// differs judges whether a counter stands elsewhere than it belongs, and keeps where that is.
func (s *state) differs(stored json.Number) (bool, error) {
	s.wants = stored.String()
	if s.column == "" {
		return s.now != s.wants, nil
	}
	want, err := strconv.ParseUint(s.wants, 10, 64)
	if err != nil {
		return false, err
	}
	largest, err := wholePart(s.largest)
	if err != nil {
		return false, err
	}
	if s.now == strconv.FormatUint(largest, 10) { // the last that the column's type has
		return false, nil
	}
	s.wants = strconv.FormatUint(max(want, largest+1), 10)
	return s.now != s.wants, nil
}

// wholePart is the largest value of a column as far as it moves a counter: 0 when it is negative.
func wholePart(text string) (uint64, error) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	return uint64(max(f, 0)), err
}

// alterCounters puts counters where they belong. Each is a change of the schema that waits for whoever reads the table.
func (t *Database) alterCounters(ctx context.Context, s *session, back []state) error {
	if len(back) == 0 {
		return nil
	}
	// The server looks at all columns again: what an increment could make in another mode stays allowed. And whoever
	// comes to read the table waits behind us: we wait for a short time only, and come again.
	if err := s.do(ctx, "SET SESSION sql_mode = '"+lenientMode+"', foreign_key_checks = 0, lock_wait_timeout = "+
		putBackSeconds); err != nil {
		return err
	}
	defer func() {
		if s.do(ctx, "SET SESSION sql_mode = '"+t.flavour.sqlMode+"', foreign_key_checks = 1, lock_wait_timeout = "+
			lockSeconds) != nil {
			s.close()
		}
	}()
	var moves []string
	for _, st := range back {
		change := "ALTER TABLE " + quoteName(st.name) + " AUTO_INCREMENT = " + st.wants
		if st.column == "" {
			change = "ALTER SEQUENCE " + quoteName(st.name) + " RESTART " + st.wants
		}
		if err := s.do(ctx, change); err != nil {
			return fmt.Errorf("%s stands at %s and belongs at %s: %s: %w", quoteName(st.name), st.now, st.wants,
				change, err)
		}
		moves = append(moves, fmt.Sprintf("%s from %s to %s", quoteName(st.name), st.now, st.wants))
	}
	if !t.counters.ours {
		more := ""
		if n := len(moves) - shownMoves; n > 0 {
			more = fmt.Sprintf(", and of %d more", n)
		}
		t.notice("the next numbers were put back to where the position says: of %s%s; a crash moves them, or somebody "+
			"else who writes to this database", strings.Join(moves[:min(len(moves), shownMoves)], ", "), more)
	}
	return nil
}

// lenientMode lets every default of a column stand that a table can have: dates of zeros, and days that no month has.
const lenientMode = "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"

// putBackSeconds is how long a counter that is put back waits for those who read the table, and others for it.
const putBackSeconds = "2"

// shownMoves is how many counters a notice names.
const shownMoves = 5

func (t *Database) notice(format string, args ...any) {
	t.counters.notices = append(t.counters.notices, fmt.Sprintf("mysql: "+format, args...))
}

// Notices implements nodeclient.Noticer.
func (t *Database) Notices() (all []string) {
	all, t.counters.notices = t.counters.notices, nil
	return all
}

var _ nodeclient.Noticer = (*Database)(nil)
