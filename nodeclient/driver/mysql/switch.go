package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"xmq/nodeclient"
)

// The scripts of a restore lie in a table of DB_xmq_restore. Its name says whether the switch is decided.
const (
	undecided = "xmq_scripts"
	decided   = "xmq_switch"
)

// keepScripts takes away what was made on trial above the tables, and stores how it is made.
func (t *Database) keepScripts(ctx context.Context, s *session, scripts []script) error {
	if err := clearAll(ctx, s, restoreName(t.cfg.DBName)); err != nil {
		return err
	}
	if err := s.do(ctx, "CREATE TABLE "+undecided+
		" (id int PRIMARY KEY, script longtext NOT NULL) CHARACTER SET utf8mb4"); err != nil {
		return err
	}
	for i, sc := range scripts {
		b, err := json.Marshal(sc)
		if err != nil {
			return err
		}
		if err := s.do(ctx, "INSERT INTO "+undecided+" VALUES ("+strconv.Itoa(i)+", "+quoteText(string(b))+")"); err != nil {
			return err
		}
	}
	return nil
}

// makeAll runs scripts until all have run; those that need a later one are tried again while any succeeds. Each is
// CREATE OR REPLACE or does the same twice.
func (t *Database) makeAll(ctx context.Context, s *session, scripts []script) error {
	for len(scripts) > 0 {
		var later []script
		var failed error
		for _, sc := range scripts {
			if err := s.do(ctx, "SET sql_mode = "+quoteText(sc.Mode)+", collation_connection = "+
				quoteText(sc.Collation)); err != nil {
				return err
			}
			drop, create := sc.parts()
			var err error
			if drop != "" {
				err = s.do(ctx, drop)
			}
			if err == nil {
				err = s.do(ctx, create)
			}
			if err != nil {
				if transient(number(err)) || connFailed(err) {
					return err
				}
				failed = errors.Join(failed, fmt.Errorf("make the %s %s: %w", strings.ToLower(sc.Kind), sc.Name, err))
				later = append(later, sc)
			}
		}
		if len(later) == len(scripts) {
			return failed
		}
		scripts = later
	}
	return s.each(ctx, t.flavour.pins)
}

// clearAll drops what lies above the tables of a database: triggers first, then views, then routines.
func clearAll(ctx context.Context, s *session, database string) error {
	things, err := listThings(ctx, s, database)
	if err != nil {
		return err
	}
	for i := len(things) - 1; i >= 0; i-- {
		if err := s.do(ctx, "DROP "+things[i].kind+" IF EXISTS "+quoteName(database)+"."+
			quoteName(things[i].name)); err != nil {
			return err
		}
	}
	return nil
}

// Switch implements nodeclient.Restored. One RENAME TABLE decides: from then on the new data will be live, whatever
// happens, and a crash is followed by the rest when the target is opened again. The old tables stay readable until one
// other RENAME TABLE exchanges all of them; sessions of others must let them go for that. Transient: that has not
// happened yet, or the server is away; Position then goes on with it.
func (r *restored) Switch(ctx context.Context) error {
	t := r.db
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	// The place stays locked to the end: a node that gets the database meanwhile waits with whatever it does, see tidy.
	defer func() { t.giveBack(ctx, s) }()
	if err := t.holds(ctx, s); err != nil {
		return err
	}
	fresh := quoteName(restoreName(t.cfg.DBName)) + "."
	t.switching = true
	err = s.do(ctx, "RENAME TABLE "+fresh+undecided+" TO "+fresh+decided)
	if err != nil && !connFailed(err) {
		t.switching = false
		return nodeclient.Transient(fmt.Errorf("mysql: decide the switch to the restored database: %w", err))
	}
	was, lookErr := t.finish(ctx)
	switch {
	case lookErr != nil:
		return lookErr
	case !was:
		return nodeclient.Transient(fmt.Errorf("mysql: decide the switch to the restored database: %w", err))
	}
	return nil
}

// finish does the rest of a switch if one is decided, which it reports. Every part of it may have been done already,
// or is done by another node that has the database now: it waits for the place.
func (t *Database) finish(ctx context.Context) (was bool, err error) {
	if t.s == nil || t.s.dead {
		if t.s, err = t.connect(ctx, t.cfg.DBName); err != nil {
			return false, err
		}
	}
	if err := t.await(ctx, t.s); err != nil {
		return false, err
	}
	defer t.leave(ctx)
	tables, err := t.tablesOf(ctx, restoreName(t.cfg.DBName))
	if err == nil && len(tables[decided]) > 0 {
		was = true
		err = t.exchange(ctx, tables)
	}
	if err != nil {
		return was, nodeclient.Transient(fmt.Errorf("mysql: switch to the restored database: %w", err))
	}
	t.switching = false
	if was {
		t.counters.forget()
	}
	return was, nil
}

// await waits for the place.
func (t *Database) await(ctx context.Context, s *session) error {
	rows, err := s.query(ctx, "SELECT coalesce(GET_LOCK("+t.lock+", "+lockSeconds+"), 0)")
	if err == nil && rows[0][0] != "1" {
		err = errors.New("another session holds the lock on the position of this node")
	}
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("mysql: look whether a switch to a restored database is to be finished: %w",
			err))
	}
	return nil
}

// leave gives the place free that await has taken, once.
func (t *Database) leave(ctx context.Context) {
	if !t.s.dead && t.s.do(ctx, "DO RELEASE_LOCK("+t.lock+")") != nil {
		t.s.close()
	}
}

// exchange is finish with the tables of the restored database.
func (t *Database) exchange(ctx context.Context, fresh map[string]string) error {
	live, restore, old := t.cfg.DBName, restoreName(t.cfg.DBName), oldName(t.cfg.DBName)
	if len(fresh[table]) > 0 { // the position comes with all the others
		if err := t.trade(ctx, fresh); err != nil {
			return err
		}
	}
	rows, err := t.s.query(ctx, "SELECT script FROM "+quoteName(restore)+"."+decided+" ORDER BY id")
	if err != nil {
		return err
	}
	var scripts []script
	for _, row := range rows {
		var sc script
		if err := json.Unmarshal([]byte(row[0]), &sc); err != nil {
			return err
		}
		if sc.Kind != "DATABASE" {
			scripts = append(scripts, sc)
			continue
		}
		characters, order, _ := strings.Cut(sc.Name, " ")
		if err := t.s.do(ctx, "ALTER DATABASE "+quoteName(live)+" CHARACTER SET "+characters+" COLLATE "+order); err != nil {
			return err
		}
	}
	if err := t.makeAll(ctx, t.s, scripts); err != nil {
		return err
	}
	if err := t.dropIn(ctx, t.s, old); err != nil {
		return err
	}
	return t.dropIn(ctx, t.s, restore)
}

// trade is the one moment: all tables of the live database leave it and all restored ones take their places.
func (t *Database) trade(ctx context.Context, fresh map[string]string) error {
	live, restore, old := t.cfg.DBName, restoreName(t.cfg.DBName), oldName(t.cfg.DBName)
	if err := clearAll(ctx, t.s, live); err != nil {
		return err
	}
	if err := t.dropIn(ctx, t.s, old); err != nil {
		return err
	}
	if err := t.s.do(ctx, "CREATE DATABASE "+quoteName(old)); err != nil {
		return err
	}
	tables, err := t.tablesOf(ctx, live)
	if err != nil {
		return err
	}
	var moves []string
	move := func(name, from, to string) {
		moves = append(moves, quoteName(from)+"."+quoteName(name)+" TO "+quoteName(to)+"."+quoteName(name))
	}
	for name := range tables {
		move(name, live, old)
	}
	for name := range fresh {
		if name != decided {
			move(name, restore, live)
		}
	}
	return t.s.do(ctx, "RENAME TABLE "+strings.Join(moves, ", "))
}

// tablesOf lists tables and sequences of a database, with their kind; none when it does not exist.
func (t *Database) tablesOf(ctx context.Context, database string) (map[string]string, error) {
	rows, err := t.s.query(ctx, "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = "+
		quoteText(database)+" AND table_type <> 'VIEW'")
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(rows))
	for _, row := range rows {
		all[row[0]] = row[1]
	}
	return all, nil
}

// Discard implements nodeclient.Restored. A switch that was decided, or may have been, is not taken back.
func (r *restored) Discard() error {
	if r.db.switching {
		return nil
	}
	return r.db.drop(restoreName(r.db.cfg.DBName))
}

// drop removes a database that may be absent, with a context and session of its own: it cleans up after errors too.
func (t *Database) drop(database string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*settleTime)
	defer cancel()
	s, err := t.connect(ctx, t.cfg.DBName)
	if err != nil {
		return err
	}
	defer s.close()
	if err := t.holds(ctx, s); errors.Is(err, nodeclient.ErrTaken) { // who has the database now has looked after it
		return nil
	} else if err != nil {
		return err
	}
	if err := t.dropIn(ctx, s, database); err != nil {
		return nodeclient.Transient(err)
	}
	return nil
}

func (t *Database) dropIn(ctx context.Context, s *session, database string) error {
	if err := s.do(ctx, "SET foreign_key_checks = 0; DROP DATABASE IF EXISTS "+quoteName(database)+
		"; SET foreign_key_checks = 1"); err != nil {
		return fmt.Errorf("mysql: drop the database %q: %w", database, err)
	}
	return nil
}

// tidy finishes a switch that was decided, and drops what an interrupted restore or snapshot left beside the live
// database.
func (t *Database) tidy(ctx context.Context) error {
	if _, err := t.finish(ctx); err != nil {
		return err
	}
	if err := t.await(ctx, t.s); err != nil {
		return err
	}
	defer t.leave(ctx)
	rows, err := t.s.query(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ("+
		quoteText(restoreName(t.cfg.DBName))+", "+quoteText(oldName(t.cfg.DBName))+", "+
		quoteText(keysName(t.cfg.DBName))+")")
	if err != nil {
		return classify(fmt.Errorf("mysql: look for the rest of a restore: %w", err))
	}
	for _, row := range rows {
		if err := t.dropIn(ctx, t.s, row[0]); err != nil {
			return classify(err)
		}
	}
	return nil
}
