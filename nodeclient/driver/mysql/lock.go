package mysql

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// A database belongs to one node. That one holds a lock of the server (GET_LOCK), with a name made of the database's,
// as long as it lives, in a session that does nothing else but say so every hold.Beat: the server ends it when it is
// silent. The token of the session is a second lock.

// holdName names the lock of a node's database, which is the server's.
func holdName(database string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(database)) // a hash never fails
	return fmt.Sprintf("'xmq-node-%016x'", h.Sum64())
}

func tokenName(token hold.Token) string { return fmt.Sprintf("'xmq-token-%016x'", uint64(token)) }

// heldBy is an expression of SQL: 1 when the session of token holds the database.
func (t *Database) heldBy(token hold.Token) string {
	return "coalesce(IS_USED_LOCK(" + holdName(t.name) + ") = IS_USED_LOCK(" + tokenName(token) + "), 0)"
}

// holding is a session that holds the database.
type holding struct{ session *session }

func (h holding) Beat(ctx context.Context) error { return h.session.do(ctx, "DO 1") }
func (h holding) Close()                         { h.session.close() }

// nodeAttribute is what the server may show of a session that holds a lock: the ID of its node.
const nodeAttribute = "xmq_node"

// take is the target's hold.Taker.
func (t *Database) take(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session, error) {
	cfg := t.cfg.Clone()
	cfg.DBName = "" // it needs none
	if t.opts.Node != "" {
		cfg.ConnectionAttributes += "," + nodeAttribute + ":" + t.opts.Node
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime+t.opts.LockWait)
	defer cancel()
	s, err := begin(ctx, cfg)
	if err != nil {
		return nil, nodeclient.Transient(fmt.Errorf("mysql: connect: %w", err))
	}
	if err := t.takeIn(ctx, s, token, old); err != nil {
		s.close()
		return nil, err
	}
	return holding{s}, nil
}

// takeIn takes the lock in s.
func (t *Database) takeIn(ctx context.Context, s *session, token hold.Token, old []hold.Token) error {
	trouble := func(err error) error {
		return nodeclient.Transient(fmt.Errorf("mysql: take the lock of the database: %w", err))
	}
	name := holdName(t.name)
	for _, gone := range old { // sessions of this very process whose connection is gone, if the server has not noticed yet
		rows, err := s.query(ctx, "SELECT coalesce(IS_USED_LOCK("+tokenName(gone)+"), 0)")
		if err == nil && rows[0][0] != "0" {
			err = s.do(ctx, "KILL "+rows[0][0])
		}
		if err != nil && number(err) != noSuchThread {
			return trouble(err)
		}
	}
	wait := strconv.FormatFloat(t.opts.LockWait.Seconds(), 'f', -1, 64)
	silence := strconv.Itoa(int(hold.Silence / time.Second))
	sets, err := s.results(ctx, "SET SESSION wait_timeout = "+silence+"; SELECT GET_LOCK("+name+", "+wait+"); "+
		"SELECT GET_LOCK("+tokenName(token)+", 0); SELECT coalesce(IS_USED_LOCK("+name+"), 0)")
	switch {
	case err != nil:
		return trouble(err)
	case len(sets) != 3:
		return trouble(errors.New("the server sent no answer"))
	case sets[0][0][0] == "1" && sets[1][0][0] == "1":
		return nil
	case sets[2][0][0] == "0":
		return trouble(errors.New("it was held until now: trying again"))
	}
	return t.taken(ctx, s, sets[2][0][0])
}

// taken says who holds the lock, as far as the server shows it.
func (t *Database) taken(ctx context.Context, s *session, id string) error {
	holder := "session " + id
	attributes, err := s.query(ctx, "SELECT attr_value FROM performance_schema.session_account_connect_attrs "+
		"WHERE processlist_id = "+id+" AND attr_name = '"+nodeAttribute+"'")
	if err == nil && len(attributes) == 1 { // some servers keep none
		holder = "node " + attributes[0][0] + ", " + holder
	}
	rows, err := s.query(ctx, "SHOW PROCESSLIST")
	if err != nil { // without it the session is all there is to say
		rows = nil
	}
	for _, row := range rows {
		if row[0] == id {
			holder += " of the user " + row[1] + " from " + row[2]
		}
	}
	return nodeclient.Taken("mysql", t.cfg.DBName, holder)
}

// see looks at the place, of a node that holds the database: when it has lost that, it takes it again before. start
// and lock are as for seeOnce. On an error the transaction may be open.
func (t *Database) see(ctx context.Context, s *session, start, lock string) (place, error) {
	for range 2 {
		token, err := t.hold.Ensure(ctx)
		if err != nil {
			return place{}, err
		}
		t.counters.under(token)
		p, err := t.seeOnce(ctx, s, start, lock, t.heldBy(token))
		if p.held || err != nil && !nodeclient.IsFatal(err) {
			return p, err
		}
		t.giveBack(ctx, s)
		t.hold.Lost(token)
	}
	return place{}, nodeclient.Transient(fmt.Errorf("mysql: %w", hold.ErrLost))
}

// holds looks whether this node has the database, and takes it when it was lost. The place stays locked.
func (t *Database) holds(ctx context.Context, s *session) error {
	p, err := t.look(ctx, s)
	if p.held && nodeclient.IsFatal(err) { // of a position that is going to be replaced
		return nil
	}
	return err
}
