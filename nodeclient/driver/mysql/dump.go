package mysql

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/sqltext"
)

// The kinds of records in a snapshot; doc.go draws them.
const (
	sequenceRecord = 's' // CREATE SEQUENCE and SELECT setval
	tableRecord    = 't' // name, a NUL byte, CREATE TABLE
	rowsRecord     = 'r' // INSERT
	checksumRecord = 'd' // rows and digest of the table, 8 bytes each
	scriptRecord   = 'x' // a script, as JSON
)

// maxInsert is how many bytes of rows go into one INSERT, unless one row is longer.
const maxInsert = 256 << 10

// maxRecord is as long as the longest statement a server can be told to take.
const maxRecord = 1 << 30

// script makes one thing that lies above the tables, and is made when they stand in their place.
type script struct {
	Kind      string `json:"kind"` // VIEW, PROCEDURE, FUNCTION, TRIGGER; DEFAULT of a column
	Name      string `json:"name"`
	Mode      string `json:"mode"` // sql_mode it was written in
	Collation string `json:"collation"`
	SQL       string `json:"sql"`
}

func (s *snapshot) write(ctx context.Context, w io.Writer) error {
	// increments go on: there is time
	if err := s.session.do(ctx, "SET SESSION lock_wait_timeout = "+lockSeconds); err != nil {
		return err
	}
	data, err := s.db.flavour.stream.NewWriter(w, s.head)
	if err != nil {
		return err
	}
	d := dump{snapshot: s, w: data}
	for _, seq := range s.sequences {
		if err := d.sequence(ctx, seq); err != nil {
			return fmt.Errorf("the sequence %s: %w", seq.name, err)
		}
	}
	for _, t := range s.tables {
		err := d.session.do(ctx, "SAVEPOINT xmq_table")
		if err == nil {
			err = d.table(ctx, t)
		}
		if err == nil { // for others the table is free again; what the transaction sees stays the same
			err = d.session.do(ctx, "ROLLBACK TO SAVEPOINT xmq_table")
		}
		if err != nil {
			return fmt.Errorf("the table %s: %w", t.name, err)
		}
	}
	if err := d.scripts(ctx); err != nil {
		return err
	}
	return data.End()
}

// dump writes the records of one snapshot.
type dump struct {
	*snapshot
	w        *snapstream.Writer
	defaults []script
}

// record writes one record.
func (d *dump) record(kind byte, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > maxRecord {
		return fmt.Errorf("a record of %d bytes is longer than %d", n, maxRecord)
	}
	b := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	_, err := d.w.Write(b)
	return err
}

// home takes the name of this database out of a default that names a sequence with it.
func (d *dump) home(text string) string {
	return strings.ReplaceAll(text, "nextval("+quoteName(d.db.cfg.DBName)+".", "nextval(")
}

// withCounter is a CREATE TABLE whose next AUTO_INCREMENT, if it says one, is next. What looks the same in a comment
// or a default stays as it is.
func withCounter(create, next string) string {
	if at := counterAt(create); at != nil {
		return create[:at[0]] + next + create[at[1]:]
	}
	return create
}

// counterAt is where the number of AUTO_INCREMENT stands in a CREATE TABLE; nil for none.
func counterAt(create string) []int {
	tokens, err := sqltext.Tokens(sqltext.MariaDB, create)
	for i := 0; err == nil && i+5 < len(tokens); i++ { // ENGINE = InnoDB AUTO_INCREMENT = 7
		if t := tokens[i:]; t[0].Is("ENGINE") && t[2].Is("InnoDB") && t[3].Is("AUTO_INCREMENT") && t[4].Text == "=" {
			return []int{t[5].At, t[5].At + len(t[5].Text)}
		}
	}
	return nil
}

func (d *dump) sequence(ctx context.Context, q sequenceState) error {
	rows, err := d.session.query(ctx, "SHOW CREATE SEQUENCE "+quoteName(q.name))
	if err != nil {
		return err
	}
	return d.record(sequenceRecord, []byte(rows[0][1]+"; DO setval("+quoteName(q.name)+", "+q.next+", 0, "+q.cycle+")"))
}

func (d *dump) table(ctx context.Context, t tableState) error {
	rows, err := d.session.query(ctx, "SHOW CREATE TABLE "+quoteName(t.name))
	if err != nil {
		return err
	}
	create, err := d.generated(ctx, t.name, rows[0][1])
	if err != nil {
		return err
	}
	create = d.home(withCounter(create, max(t.next, "1"))) // as the snapshot was opened
	if err := d.record(tableRecord, []byte(t.name), []byte{0}, []byte(create)); err != nil {
		return err
	}
	all, err := columns(ctx, d.session, t.name)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.seq != "" {
			d.defaults = append(d.defaults, script{Kind: "DEFAULT", Name: t.name, Mode: d.db.flavour.sqlMode,
				Collation: d.db.flavour.collation,
				SQL: "ALTER TABLE " + quoteName(t.name) + " ALTER COLUMN " + quoteName(c.name) + " SET DEFAULT " +
					d.home(c.seq)})
		}
	}
	begin := []byte("INSERT INTO " + quoteName(t.name) + " (" + list(all) + ") VALUES ")
	var sum checksum
	var gathered []byte
	flush := func() error {
		if len(gathered) == 0 {
			return nil
		}
		err := d.record(rowsRecord, begin, gathered)
		gathered = gathered[:0]
		return err
	}
	err = read(ctx, d.session, t.name, all, func(row []byte) error {
		sum.add(row)
		if len(gathered) > 0 && len(gathered)+len(row) > maxInsert {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(gathered) > 0 {
			gathered = append(gathered, ',')
		}
		gathered = append(gathered, row...)
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint64(nil, sum.rows)
	return d.record(checksumRecord, binary.LittleEndian.AppendUint64(b, sum.sum))
}

// scripts writes routines, then views, then triggers, in an order in which they can be made where none needs a later
// one.
func (d *dump) scripts(ctx context.Context) error {
	for _, sc := range d.defaults {
		if err := d.script(sc); err != nil {
			return err
		}
	}
	things, err := listThings(ctx, d.session, d.db.cfg.DBName)
	if err != nil {
		return err
	}
	for _, th := range things {
		rows, err := d.session.query(ctx, "SHOW CREATE "+th.kind+" "+quoteName(th.name))
		if err != nil {
			return fmt.Errorf("the %s %s: %w", strings.ToLower(th.kind), th.name, err)
		}
		row := rows[0]
		sc := script{Kind: th.kind, Name: th.name, Mode: row[1], SQL: row[2]}
		if th.kind == "VIEW" {
			sc.Mode, sc.SQL, sc.Collation = d.db.flavour.sqlMode, row[1], row[3]
			if err := d.whole(ctx, th.name); err != nil {
				return err
			}
		} else {
			sc.Collation = row[4]
		}
		if sc.SQL == "" {
			return fmt.Errorf("the %s %s: its text may be seen by its definer only, who is another user",
				strings.ToLower(th.kind), th.name)
		}
		if err := sc.readable(); err != nil {
			return err
		}
		sc.SQL, err = remake(d.db.flavour, th, sc.SQL)
		if err == nil && th.kind == "TRIGGER" {
			sc.SQL, err = unqualified(sc.SQL, th.name)
		}
		if err != nil {
			return fmt.Errorf("the %s %s: %w", strings.ToLower(th.kind), th.name, err)
		}
		if err := d.script(sc); err != nil {
			return err
		}
	}
	return nil
}

// whole refuses a view that nobody could make again, before all the data has gone to another node.
func (d *dump) whole(ctx context.Context, view string) error {
	stmt, err := d.session.prepare(ctx, "SELECT * FROM "+quoteName(view))
	if err != nil {
		return fmt.Errorf("the view %s cannot be read, so that no copy could make it: mend or drop it: %w", view, err)
	}
	return stmt.Close()
}

func (d *dump) script(sc script) error {
	b, err := json.Marshal(sc)
	if err != nil {
		return err
	}
	return d.record(scriptRecord, b)
}

// thing is a view, a routine or a trigger.
type thing struct{ kind, name string }

// listThings lists what lies above the tables of a database: routines, views, triggers. Events are none of it.
func listThings(ctx context.Context, s *session, database string) (all []thing, err error) {
	schema := quoteText(database)
	rows, err := s.query(ctx, "SELECT 1 AS n, routine_type, routine_name, '' AS t, 0 AS o FROM "+
		"information_schema.routines WHERE routine_schema = "+schema+
		" UNION ALL SELECT 2, 'VIEW', table_name, '', 0 FROM information_schema.views WHERE table_schema = "+schema+
		" UNION ALL SELECT 3, 'TRIGGER', trigger_name, event_object_table, action_order FROM information_schema.triggers "+
		"WHERE trigger_schema = "+schema+
		" ORDER BY 1, 4, 5, 3")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row[1] != "PROCEDURE" && row[1] != "FUNCTION" && row[1] != "VIEW" && row[1] != "TRIGGER" {
			return nil, fmt.Errorf("the database holds a %s, %s, which a snapshot cannot carry", strings.ToLower(row[1]), row[2])
		}
		all = append(all, thing{row[1], row[2]})
	}
	return all, nil
}

// remake makes a script of a CREATE that replaces what is there, without the DEFINER, so that the user who runs it
// becomes that.
func remake(f *flavour, th thing, create string) (string, error) {
	begin := "CREATE OR REPLACE"
	if !slices.Contains(f.replaces, th.kind) {
		begin = "DROP " + th.kind + " IF EXISTS " + quoteName(th.name) + "; CREATE"
	}
	tokens, err := sqltext.Tokens(sqltext.MariaDB, create)
	if err != nil {
		return "", err
	}
	if len(tokens) == 0 || !tokens[0].Is("CREATE") {
		return "", errors.New("its text does not begin with CREATE")
	}
	from := tokens[0].At + len(tokens[0].Text)
	for i := 1; i+4 < len(tokens) && !tokens[i].Is("AS"); i++ {
		if tokens[i].Is("DEFINER") && tokens[i+1].Text == "=" && tokens[i+3].Text == "@" { // DEFINER = `user` @ `host`
			end := tokens[i+4].At + len(tokens[i+4].Text)
			return begin + create[from:tokens[i].At] + strings.TrimLeft(create[end:], " "), nil
		}
	}
	return begin + create[from:], nil
}
