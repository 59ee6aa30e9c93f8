package mysql

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/freespace"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/internal/spool"
)

func restoreName(database string) string { return database + "_xmq_restore" }
func oldName(database string) string     { return database + "_xmq_old" }

// restored is a verified database beside the live one.
type restored struct{ db *Database }

// Loads reports whether format is the one this driver writes.
func (t *Database) Loads(format string) bool { return format == t.flavour.stream.Name }

// dataFolder is where the server keeps its data, and the host at which it is.
func (t *Database) dataFolder(ctx context.Context, s *session) (host, dir string, err error) {
	rows, err := s.query(ctx, "SELECT @@datadir")
	if err != nil {
		return "", "", classify(fmt.Errorf("mysql: ask where the data lies: %w", err))
	}
	host = "localhost" // by a socket
	if t.cfg.Net == "tcp" {
		host = strings.Trim(t.cfg.Addr[:strings.LastIndexByte(t.cfg.Addr, ':')], "[]")
	}
	return host, rows[0][0], nil
}

// Space implements nodeclient.Placed, of the disk of a server on this machine.
func (t *Database) Space() (free, total uint64, err error) { return t.folder.Space() }

// CheckSpace implements nodeclient.Database. The size of a database on its server says about how much its copy takes.
func (t *Database) CheckSpace(ctx context.Context, size int64) error {
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	host, dir, err := t.dataFolder(ctx, s)
	if err != nil {
		return err
	}
	if err := freespace.ForServer(host, dir, size); err != nil {
		return err
	}
	return freespace.ForSpool(size)
}

// charset is the preface of a snapshot: character set and collation of the database.
var charset = regexp.MustCompile(`^[a-z0-9_]+ [a-z0-9_]+$`)

// Restore implements nodeclient.Database. Nothing of the snapshot reaches the server before all of it has come and
// every record was judged. Then the records are carried out in DB_xmq_restore, in a session that takes one statement
// at a time. Every table is read again and compared with what the source has counted, the position is compared, and
// routines, views and triggers are made on trial. A snapshot of a database that had no position yet is accepted for
// the start of a log and given that position.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	err := t.restore(ctx, want, topics, r)
	if err == nil {
		return &restored{t}, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = nodeclient.Transient(fmt.Errorf("%w: %w", cause, err))
	}
	if number(err) != 0 {
		err = classify(err)
	}
	if nodeclient.IsFatal(err) { // the snapshot's state, not that of the live database
		err = fmt.Errorf("%v: %w", err, event.ErrDamaged)
	}
	return nil, errors.Join(fmt.Errorf("mysql: restore %d: %w", want.Seq, err), t.drop(restoreName(t.cfg.DBName)))
}

func (t *Database) restore(ctx context.Context, want event.Position, topics event.Topics, r io.Reader) error {
	whole, err := spool.Take(r)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() { _ = whole.Close() }() // it has no name, and nothing is lost with it
	err = whole.Read(func(r io.Reader) error {
		records, h, err := t.flavour.stream.NewReader(r)
		if err != nil {
			return fmt.Errorf("read the header: %w", err)
		}
		if h.Pos != want && !(h.Pos.Zero() && want == event.Start(want.Log) && !want.Zero()) {
			return fmt.Errorf("the snapshot holds position %s, expected was %s", h.Pos, want)
		}
		if !charset.Match(h.Preface) {
			return fmt.Errorf("the snapshot names no character set: %w", event.ErrDamaged)
		}
		return checkAll(records)
	})
	if err != nil {
		return err
	}
	return whole.Read(func(r io.Reader) error {
		records, h, err := t.flavour.stream.NewReader(r)
		if err != nil {
			return err
		}
		return t.fill(ctx, want, topics, records, h)
	})
}

// fill carries out a snapshot that was judged.
func (t *Database) fill(ctx context.Context, want event.Position, topics event.Topics, records *snapstream.Reader,
	h snapstream.Head) error {
	if err := t.fresh(ctx, string(h.Preface)); err != nil {
		return err
	}
	theirs, err := t.connectSingle(ctx, restoreName(t.cfg.DBName)) // for what comes from the snapshot
	if err != nil {
		return err
	}
	defer theirs.close()
	if err := theirs.each(ctx, t.flavour.loading+t.flavour.forLong); err != nil {
		return lost(theirs, err)
	}
	l := load{session: theirs}
	if err := l.all(ctx, records); err != nil {
		return lost(theirs, err)
	}
	ours, err := t.connect(ctx, restoreName(t.cfg.DBName))
	if err != nil {
		return err
	}
	defer ours.close()
	if err := t.verify(ctx, ours, want, h.Pos); err != nil {
		return lost(ours, err)
	}
	if err := keepTopics(ctx, ours, topics); err != nil {
		return lost(ours, fmt.Errorf("store the topics: %w", err))
	}
	if err := t.makeAll(ctx, theirs, l.scripts); err != nil {
		return lost(theirs, err)
	}
	return lost(ours, t.keepScripts(ctx, ours, append(l.scripts, script{Kind: "DATABASE", Name: string(h.Preface)})))
}

// lost is err, as Transient where the connection or the server ended s.
func lost(s *session, err error) error {
	if err != nil && s.dead && !errors.Is(err, event.ErrDamaged) {
		return nodeclient.Transient(err)
	}
	return err
}

// fresh makes the database for a restore. The position may not move meanwhile, so the session for increments does it.
func (t *Database) fresh(ctx context.Context, preface string) error {
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	if err := t.owned(ctx, s); err != nil {
		return err
	}
	name := quoteName(restoreName(t.cfg.DBName))
	characters, order, _ := strings.Cut(preface, " ")
	err = s.do(ctx, "DROP DATABASE IF EXISTS "+name+"; CREATE DATABASE "+name+" CHARACTER SET "+characters+" COLLATE "+
		order)
	if number(err) == deniedDatabase {
		return fmt.Errorf("a restore loads into a database of its own, and the user %q may not make it: GRANT ALL ON %s.* "+
			"TO that user: %w", t.cfg.User, quoteName(escapeGrant(t.cfg.DBName)+`\_xmq\_%`), err)
	}
	if err != nil {
		return fmt.Errorf("create the database for the restore: %w", err)
	}
	return nil
}

// owned refuses what the switch could not drop, before anything is decided.
func (t *Database) owned(ctx context.Context, s *session) error {
	if !t.flavour.guards {
		return nil
	}
	schema := quoteText(t.cfg.DBName)
	rows, err := s.query(ctx, "SELECT kind, name, definer FROM (SELECT routine_type AS kind, routine_name AS name, "+
		"definer FROM information_schema.routines WHERE routine_schema = "+schema+
		" UNION ALL SELECT 'VIEW', table_name, definer FROM information_schema.views WHERE table_schema = "+schema+
		" UNION ALL SELECT 'TRIGGER', trigger_name, definer FROM information_schema.triggers WHERE trigger_schema = "+schema+
		") d WHERE definer <> current_user() AND NOT EXISTS (SELECT 1 FROM information_schema.user_privileges WHERE "+
		"privilege_type = 'SYSTEM_USER') LIMIT 1")
	if err != nil {
		return fmt.Errorf("look for what others have made: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	return fmt.Errorf("the %s %s belongs to %s, and if that is an administrator the user %q may not replace it: DROP "+
		"%s %s, or GRANT SYSTEM_USER ON *.* TO that user",
		strings.ToLower(rows[0][0]), rows[0][1], rows[0][2], t.cfg.User, rows[0][0], quoteName(rows[0][1]))
}

// escapeGrant writes a name as a pattern of GRANT.
func escapeGrant(name string) string { return strings.NewReplacer("_", `\_`, "%", `\%`).Replace(name) }

// load carries out the records of a snapshot.
type load struct {
	session *session
	table   string // the one whose rows come
	open    bool   // they do
	found   uint64 // of its rows so far
	columns []column
	scripts []script
	bytes   int // since the last commit
}

// counted is what the source says of a table.
type counted struct {
	table   string
	columns []column
	checksum
}

// commitBytes is after how many bytes of rows a restore commits.
const commitBytes = 16 << 20

func (l *load) all(ctx context.Context, records *snapstream.Reader) error {
	for {
		kind, body, err := readRecord(records)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if err := l.record(ctx, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// readRecord returns the next record; io.EOF after the last one. Its length is believed only as far as bytes come.
func readRecord(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("a record is cut: %w", event.ErrDamaged)
		}
		return 0, nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head[1:]))
	if n > maxRecord {
		return 0, nil, fmt.Errorf("a record of %d bytes is longer than %d: %w", n, maxRecord, event.ErrDamaged)
	}
	var b bytes.Buffer
	if m, err := io.Copy(&b, io.LimitReader(r, n)); err != nil {
		return 0, nil, err
	} else if m < n {
		return 0, nil, fmt.Errorf("a record is cut: %w", event.ErrDamaged)
	}
	return head[0], b.Bytes(), nil
}

// record carries out one record.
func (l *load) record(ctx context.Context, kind byte, body []byte) (err error) {
	if len(body) >= l.session.packet {
		return fmt.Errorf("a row of the table %s needs a statement of %d bytes, more than the server takes: raise "+
			"max_allowed_packet, which is %d", l.table, len(body), l.session.packet)
	}
	p, err := parseRecord(kind, body, l.table, l.open)
	if err != nil {
		return fmt.Errorf("%w: %w", err, event.ErrDamaged)
	}
	switch kind {
	case sequenceRecord:
		if err := l.session.do(ctx, p.create); err != nil {
			return fmt.Errorf("create the sequence %s: %w", p.name, err)
		}
		return l.session.do(ctx, "DO setval("+quoteName(p.name)+", "+p.next+", 0, "+p.cycle+")")
	case tableRecord:
		l.table, l.open, l.found, l.bytes = p.name, true, 0, 0
		if err := l.session.do(ctx, p.create); err != nil {
			return fmt.Errorf("create the table %s: %w", p.name, err)
		}
		if l.columns, err = columns(ctx, l.session, p.name); err != nil {
			return err
		}
		return l.session.do(ctx, "START TRANSACTION")
	case rowsRecord:
		n, err := l.session.exec(ctx, "INSERT INTO "+quoteName(l.table)+" ("+list(l.columns)+") VALUES "+string(p.tuples))
		if err != nil {
			return fmt.Errorf("rows of the table %s: %w", l.table, err)
		}
		l.found += uint64(n)
		if l.bytes += len(body); l.bytes > commitBytes {
			l.bytes = 0
			return l.session.do(ctx, "COMMIT AND CHAIN")
		}
		return nil
	case checksumRecord:
		c := counted{l.table, l.columns, p.checksum}
		if l.found != c.rows {
			return fmt.Errorf("the table %s has %d rows, expected were %d: %w", l.table, l.found, c.rows, event.ErrDamaged)
		}
		if err := l.session.do(ctx, "COMMIT"); err != nil {
			return err
		}
		l.table, l.open = "", false
		return l.compare(ctx, c)
	}
	l.scripts = append(l.scripts, p.script)
	return nil
}

// compare reads a table again.
func (l *load) compare(ctx context.Context, c counted) error {
	var got checksum
	err := read(ctx, l.session, c.table, c.columns, func(row []byte) error {
		got.add(row)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the table %s again: %w", c.table, err)
	}
	if got != c.checksum {
		return fmt.Errorf("the table %s came out as other rows than went in: %w", c.table, event.ErrDamaged)
	}
	return nil
}

// verify compares the position of the fresh database.
func (t *Database) verify(ctx context.Context, s *session, want, head event.Position) error {
	sets, err := s.results(ctx, readPosition)
	var p place
	switch {
	case number(err) == missingTable:
		if err := s.do(ctx, createPosition); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if p, err = parsePlace(sets[0]); err != nil {
			return nodeclient.Fatal(err)
		}
	}
	if err := upgrade(ctx, s); err != nil {
		return err
	}
	if p.pos.Zero() && head.Zero() {
		if _, err := s.exec(ctx, advance(p.pos, want, 0, "")); err != nil {
			return err
		}
		p.pos = want
	}
	if p.pos != want {
		return fmt.Errorf("the restored data stands at %s, expected was %s: %w", p.pos, want, event.ErrDamaged)
	}
	return nil
}
