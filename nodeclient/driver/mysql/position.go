package mysql

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"xmq/broker/event"
	"xmq/nodeclient"
)

// table is where the position lives; doc.go describes its columns.
const table = "xmq_position"

// createPosition makes the table with the zero position. It takes the name it belongs to when it is whole: a table
// without its row is a lost place.
var createPosition = "DROP TABLE IF EXISTS xmq_position_new; CREATE TABLE xmq_position_new (one tinyint NOT NULL " +
	"DEFAULT 1 PRIMARY KEY CHECK (one = 1), " +
	"log_id char(16) NOT NULL, seq bigint unsigned NOT NULL, chain char(16) NOT NULL, updated_at datetime(6) NULL, " +
	"ddl_seq bigint unsigned NULL, ddl_chain char(16) NULL, ddl_before char(16) NULL, ddl_answer bigint unsigned " +
	"NULL, " + strings.Join(addedColumns, ", ") + ") ENGINE=InnoDB DEFAULT CHARSET=ascii; " +
	"INSERT INTO xmq_position_new (log_id, seq, chain) VALUES ('0000000000000000', 0, '0000000000000000'); RENAME " +
	"TABLE xmq_position_new TO xmq_position"

// addedColumns are those that an earlier revision did not make; doc.go describes them.
var addedColumns = []string{"topics varchar(4095) NULL",
	"counters longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL", "counters_seq bigint unsigned NULL",
	"ddl_statement char(16) CHARACTER SET ascii NULL"}

// noIntent is the part of an UPDATE that takes an intent back.
const noIntent = "ddl_seq = NULL, ddl_chain = NULL, ddl_before = NULL, ddl_answer = NULL, ddl_statement = NULL"

const readPosition = "SELECT log_id, seq, chain, coalesce(ddl_seq, ''), coalesce(ddl_chain, ''), " +
	"coalesce(ddl_before, ''), coalesce(ddl_answer, 0) FROM xmq_position"

// lockName names the lock of the place, which is the server's, and the transactions that hold it.
func lockName(database string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(database)) // a hash never fails
	return fmt.Sprintf("'xmq-%016x'", h.Sum64())
}

// intent is the DDL statement that was to run when it was written down; the zero intent is none.
type intent struct {
	pos    event.Position // after the increment
	before string         // fingerprint of the schema before it
	answer uint64         // number of the operator's answer after which it ran; 0 for none
	digest string         // of the statement; only written here, read by intends
}

// place is what the position table says. missing: there is no table, which is the zero position.
type place struct {
	pos     event.Position
	ddl     intent
	missing bool
	held    bool // the node has the database
}

// begin waits for every session that may still move the position, also one whose connection is gone, and returns the
// place, locked in an open transaction. It is an XA transaction: in one of those the server refuses every commit that
// is not XMQ's, also that of a procedure. On an error the transaction may be open.
func (t *Database) begin(ctx context.Context, s *session) (place, error) {
	return t.see(ctx, s, "XA START "+t.lock+"; ", " FOR UPDATE")
}

// look is begin without a transaction, and works on a server that is read only.
func (t *Database) look(ctx context.Context, s *session) (place, error) {
	return t.see(ctx, s, "", " LOCK IN SHARE MODE")
}

// seeOnce is that after the script start, with the lock that goes after the query; held is an expression that tells
// whether the node still has the database.
func (t *Database) seeOnce(ctx context.Context, s *session, start, lock, held string) (place, error) {
	s.place, s.xa = true, start != ""
	sets, err := s.results(ctx, "SELECT GET_LOCK("+t.lock+", "+lockSeconds+"), "+held+"; "+start+readPosition+lock)
	if missing := number(err) == missingTable; missing || err != nil && broken(err) {
		rows, e := s.query(ctx, "SELECT "+held)
		p := place{missing: missing, held: e == nil && rows[0][0] == "1"}
		switch {
		case e != nil:
			return place{}, nodeclient.Transient(fmt.Errorf("mysql: read the position: %w", e))
		case missing:
			return p, nil
		}
		return p, nodeclient.Fatal(fmt.Errorf("mysql: read the position: %w", err))
	}
	switch {
	case err != nil:
		return place{}, nodeclient.Transient(fmt.Errorf("mysql: read the position: %w", err))
	case len(sets) != 2 || sets[0][0][0] != "1":
		return place{}, nodeclient.Transient(errors.New("mysql: another session, perhaps one whose connection was lost, " +
			"holds the lock on the position of this node"))
	}
	p, err := parsePlace(sets[1])
	p.held = sets[0][0][1] == "1"
	if err != nil {
		return p, nodeclient.Fatal(fmt.Errorf("mysql: read the position: %w", err))
	}
	return p, nil
}

// parsePlace reads the one row of the position table.
func parsePlace(rows [][]string) (p place, err error) {
	if len(rows) != 1 {
		return p, fmt.Errorf("the table xmq_position has %d rows instead of one: this copy has lost its position; restore "+
			"it from another node, or seek if you know its position", len(rows))
	}
	row := rows[0]
	if p.pos, err = parsePosition(row[0], row[1], row[2]); err != nil || row[3] == "" {
		return p, err
	}
	p.ddl.before = row[5]
	if p.ddl.answer, err = strconv.ParseUint(row[6], 10, 64); err != nil {
		return p, err
	}
	p.ddl.pos, err = parsePosition(row[0], row[3], row[4])
	return p, err
}

func parsePosition(log, seq, chain string) (pos event.Position, err error) {
	if pos.Log, err = event.ParseLogID(log); err != nil {
		return pos, err
	}
	if pos.Seq, err = strconv.ParseUint(seq, 10, 63); err != nil {
		return pos, err
	}
	pos.Chain, err = event.ParseChain(chain)
	return pos, err
}

// where is the compare half of every change of the row.
func where(stored event.Position) string {
	return fmt.Sprintf(" WHERE log_id = '%s' AND seq = %d AND chain = '%s'", stored.Log, stored.Seq, stored.Chain)
}

// advance is the statement that moves the position from stored to pos: compare and set. It must find exactly one row.
// at is the broker time of the last increment applied, in nanoseconds; 0 keeps the stored one. counters is what
// changes of where counters belong: recorded or recounted.
func advance(stored, pos event.Position, at int64, counters string) string {
	updated := ""
	if at != 0 {
		updated = ", updated_at = '" + time.Unix(0, at).UTC().Format("2006-01-02 15:04:05.000000") + "'"
	}
	return fmt.Sprintf("UPDATE xmq_position SET log_id = '%s', seq = %d, chain = '%s', counters_seq = %d%s%s, "+
		noIntent,
		pos.Log, pos.Seq, pos.Chain, pos.Seq, updated, counters) + where(stored)
}

// intend is the statement that writes an intent down beside the stored position. counters is as for advance.
func intend(stored event.Position, i intent, counters string) string {
	return fmt.Sprintf("UPDATE xmq_position SET ddl_seq = %d, ddl_chain = '%s', ddl_before = '%s', ddl_answer = "+
		"%d, ddl_statement = '%s'%s", i.pos.Seq, i.pos.Chain, i.before, i.answer, i.digest, counters) + where(stored)
}

// commit ends the transaction and gives the place free.
func (t *Database) commit(ctx context.Context, s *session) error {
	err := s.do(ctx, "XA END "+t.lock+"; XA COMMIT "+t.lock+" ONE PHASE; DO RELEASE_ALL_LOCKS()")
	if err == nil {
		s.place, s.xa = false, false
	}
	return err
}

// giveBack ends whatever transaction is open and gives the place free; a session that cannot do that is closed.
func (t *Database) giveBack(ctx context.Context, s *session) {
	if ctx.Err() != nil && s.place {
		s.close()
		s.place = false
		t.kill(s)
		return
	}
	if s.dead || !s.place {
		return
	}
	end := "ROLLBACK"
	if s.xa {
		_ = s.do(ctx, "XA END "+t.lock) // after some failures it has ended already
		end = "XA ROLLBACK " + t.lock
	}
	if err := s.do(ctx, end); err != nil && number(err) != missingXA || s.do(ctx, "DO RELEASE_ALL_LOCKS()") != nil {
		s.close()
		return
	}
	s.place, s.xa = false, false
}

// create makes the position table where there is none.
func (t *Database) create(ctx context.Context, s *session) error {
	defer t.giveBack(ctx, s)
	p, err := t.look(ctx, s)
	if err != nil || !p.missing {
		return err
	}
	if err := s.do(ctx, createPosition); err != nil {
		return classify(fmt.Errorf("mysql: create the table of the position: %w", err))
	}
	return nil
}

// Seek implements nodeclient.Database. It also mends a position table that has lost its row.
func (t *Database) Seek(ctx context.Context, pos event.Position) error {
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer t.giveBack(ctx, s)
	counters := "NULL" // as they stand, when they are needed
	if t.counters.ours && !t.counters.sure && t.putBack(ctx, s, nil) != nil {
		counters = "counters" // the next Apply puts them back
	}
	p, err := t.look(ctx, s)
	if err == nil && p.missing {
		err = s.do(ctx, createPosition)
	}
	if err == nil || p.held && nodeclient.IsFatal(err) { // it is what a seek mends
		err = upgrade(ctx, s)
	}
	if err == nil {
		t.counters.sure, t.counters.ours, t.counters.gave = false, false, nil
		err = s.do(ctx, "START TRANSACTION; DELETE FROM xmq_position WHERE one <> 1; "+
			fmt.Sprintf("INSERT INTO xmq_position (one, log_id, seq, chain, counters_seq) VALUES (1, '%s', %d, "+
				"'%s', %d)", pos.Log, pos.Seq, pos.Chain, pos.Seq)+
			" ON DUPLICATE KEY UPDATE log_id = VALUES(log_id), seq = VALUES(seq), chain = VALUES(chain), "+
			"counters_seq = VALUES(counters_seq), counters = "+counters+", "+noIntent+"; COMMIT")
	}
	if err != nil {
		return classify(fmt.Errorf("mysql: store the position %d: %w", pos.Seq, err))
	}
	t.doubt = event.Position{}
	return nil
}

// hasTopics reports whether the position table of the session's database has the column that the first revision did
// not make.
func hasTopics(ctx context.Context, s *session) (bool, error) {
	rows, err := s.query(ctx, "SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND "+
		"table_name = 'xmq_position' AND column_name = 'topics'")
	return err == nil && rows[0][0] != "0", err
}

// keepTopics stores topics beside the position. A table of an earlier revision gets the column before.
func keepTopics(ctx context.Context, s *session, topics event.Topics) error {
	err := upgrade(ctx, s)
	if err == nil {
		err = s.do(ctx, "START TRANSACTION; UPDATE xmq_position SET topics = "+quoteText(string(topics))+"; COMMIT")
	}
	return err
}

// Topics implements nodeclient.Database.
func (t *Database) Topics(ctx context.Context) (event.Topics, error) {
	s, err := t.session(ctx)
	if err != nil {
		return "", err
	}
	found, err := hasTopics(ctx, s)
	var rows [][]string
	if err == nil && found {
		rows, err = s.query(ctx, "SELECT coalesce(topics, '') FROM xmq_position")
	}
	if err != nil {
		return "", classify(fmt.Errorf("mysql: read the topics: %w", err))
	}
	if len(rows) != 1 {
		return "", nil
	}
	return event.Topics(rows[0][0]), nil
}

// Keep implements nodeclient.Database.
func (t *Database) Keep(ctx context.Context, topics event.Topics) error {
	s, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer t.giveBack(ctx, s)
	p, err := t.look(ctx, s)
	switch {
	case err != nil:
		return err
	case p.pos.Zero():
		return errors.New("mysql: store the topics: there is no position beside which they could stand")
	}
	if err := keepTopics(ctx, s, topics); err != nil {
		return classify(fmt.Errorf("mysql: store the topics: %w", err))
	}
	return nil
}
