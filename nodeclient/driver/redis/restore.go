package redis

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/internal/snapstream"
)

const (
	// loadBytes and loadCount bound what is loaded in one round trip.
	loadBytes = 4 << 20
	loadCount = 1000
)

// restored is a verified logical database beside the live one.
type restored struct {
	db     *Database
	want   event.Position
	topics event.Topics
	token  string
}

// Loads reports whether format is the one this driver writes.
func (t *Database) Loads(format string) bool { return format == Format }

// CheckSpace implements nodeclient.Database: what the server uses and the snapshot takes must fit below maxmemory,
// where that is set.
func (t *Database) CheckSpace(ctx context.Context, size int64) error {
	if err := t.usable(); err != nil {
		return err
	}
	defer t.conn.until(ctx)()
	i, err := readInfo(ctx, t.conn)
	if err != nil {
		return classify(ctx, "look for room", err)
	}
	used, limit := i.number("used_memory"), i.number("maxmemory")
	if limit > 0 && size > limit-used {
		return nodeclient.Transient(fmt.Errorf("redis: a snapshot of about %s is loaded beside the live data, and the "+
			"server uses %s of %s (maxmemory): raise that; the restore is tried again", units.Bytes(size), units.Bytes(used),
			units.Bytes(limit)))
	}
	return nil
}

// mark begins the marker of all restores into this target.
func (t *Database) mark() string { return strconv.Itoa(t.place.db) + ":" }

// Restore implements nodeclient.Database. It loads into the logical database restore_db, which must be empty or hold
// what an earlier restore into this target left; each piece is checked first. Then the count of keys and the position
// are compared. A snapshot of a database that had no position yet is accepted for the start of a log and given that
// position.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	fresh := &restored{t, want, topics, rand.Text()}
	fail := func(err error) (nodeclient.Restored, error) {
		if nodeclient.IsFatal(err) { // the snapshot's state, not that of the live database
			err = fmt.Errorf("%v: %w", err, event.ErrDamaged)
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = nodeclient.Transient(fmt.Errorf("%w: %w", cause, err))
		}
		return nil, fmt.Errorf("redis: restore %d: %w", want.Seq, err)
	}
	in, h, err := stream.NewReader(r)
	if err != nil {
		return fail(fmt.Errorf("read the header: %w", err))
	}
	if h.Pos != want && !(h.Pos.Zero() && want == event.Start(want.Log) && !want.Zero()) {
		return fail(fmt.Errorf("the snapshot holds position %s, expected was %s", h.Pos, want))
	}
	if err := in.Peek(); err != nil {
		return fail(fmt.Errorf("read the snapshot: %w", err))
	}
	if t.place.restore < 0 {
		return fail(errors.New("the server has one logical database only, and a restore needs another beside the live " +
			"one: set databases to 2 or more"))
	}
	way := newConn(t.place.options, t.place.restore)
	defer func() { _ = way.Close() }()
	defer way.until(ctx)()
	if err := fresh.claim(ctx, way); err != nil {
		return fail(err)
	}
	if err := fresh.load(ctx, way, in); err != nil {
		_, err := fail(err)
		return nil, errors.Join(err, fresh.Discard())
	}
	return fresh, nil
}

// claim marks the fresh database as this restore's.
func (r *restored) claim(ctx context.Context, way *conn) error {
	answer, err := claimScript.run(ctx, way, []string{markerKey}, []any{r.db.mark(), r.token})
	switch {
	case err != nil:
		return classify(ctx, fmt.Sprintf("take the logical database %d", r.db.place.restore), err)
	case text(answer) == "?":
		return fmt.Errorf("the logical database %d, into which a restore loads, holds data: empty it or name another with "+
			"?restore_db=N", r.db.place.restore)
	case text(answer) != "":
		return nodeclient.Transient(fmt.Errorf("the logical database %d is taken by a restore of another target (%.40q): "+
			"wait for it or name another with ?restore_db=N", r.db.place.restore, text(answer)))
	}
	return nil
}

// load loads all keys, then the position and the topics.
func (r *restored) load(ctx context.Context, way *conn, in *snapstream.Reader) error {
	clock, err := way.Time(ctx).Result()
	if err != nil {
		return classify(ctx, "ask for the time", err)
	}
	l := &loader{ctx: ctx, way: way, pipe: way.Pipeline(), spare: r.db.spare, safe: clock.Add(r.db.spare).UnixMilli()}
	if err := readEntries(bufio.NewReaderSize(in, snapstream.MaxFrame), l.add); err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if err := l.flush(); err != nil {
		return err
	}
	if _, err := seekScript.run(ctx, way, []string{positionKey}, words(r.want)); err != nil {
		return classify(ctx, "store the position", err)
	}
	if err := keepTopics(ctx, way, r.topics); err != nil {
		return err
	}
	if _, err := safeScript.run(ctx, way, bookKeys, []any{l.safe}); err != nil {
		return classify(ctx, "store until when keys are kept", err)
	}
	pipe := way.Pipeline()
	size, marker, times := pipe.DBSize(ctx), pipe.Get(ctx, markerKey), pipe.Exists(ctx, expiryKey)
	if _, err := pipe.Exec(ctx); err != nil {
		return classify(ctx, "look at the restored keys", err)
	}
	stored, err := readPosition(ctx, way)
	switch {
	case err != nil:
		return err
	case marker.Val() != r.db.mark()+r.token ||
		size.Val() > l.loaded+2+times.Val(): // a key may have come twice, none may have come from elsewhere
		return nodeclient.Transient(fmt.Errorf("someone else has written into the logical database %d while the restore "+
			"loaded there", r.db.place.restore))
	case stored != r.want:
		return fmt.Errorf("the restored data stands at %s, expected was %s: %w", stored, r.want, event.ErrDamaged)
	}
	return nil
}

// loader gathers keys and loads them together.
type loader struct {
	ctx    context.Context
	way    *conn
	pipe   redis.Pipeliner
	bytes  int
	keys   int64 // in pipe
	loaded int64
	spare  time.Duration
	safe   int64 // before this time in ms, and for keys that live longer their time, Redis itself ends none
}

// add loads one key. It may come twice, with the same value.
func (l *loader) add(e entry) error {
	if e.key == lockKey { // of a node of an earlier build, which took it for data
		return nil
	}
	if e.till == 0 {
		l.pipe.Do(l.ctx, "RESTORE", e.key, 0, e.dump, "REPLACE")
	} else {
		till := min(e.till, maxTime)
		l.pipe.Do(l.ctx, "RESTORE", e.key, max(l.safe, till+l.spare.Milliseconds()), e.dump, "ABSTTL", "REPLACE")
		l.pipe.ZAdd(l.ctx, expiryKey, redis.Z{Score: float64(till), Member: e.key})
	}
	l.keys++
	if l.bytes += e.size(); l.bytes < loadBytes && l.pipe.Len() < loadCount {
		return nil
	}
	return l.flush()
}

func (l *loader) flush() error {
	n := l.pipe.Len()
	if n == 0 {
		return nil
	}
	_, err := l.pipe.Exec(l.ctx)
	if text := said(err); strings.HasPrefix(text, "ERR DUMP payload") || strings.HasPrefix(text, "ERR Bad data format") {
		return fmt.Errorf("load keys: the server does not read what the other node's server has written, which may be of "+
			"a later version: %w", err)
	}
	if err != nil {
		return classify(l.ctx, "load keys", err)
	}
	l.loaded, l.keys, l.bytes = l.loaded+l.keys, 0, 0
	return nil
}

// Switch implements nodeclient.Restored: one call of a script. One whose answer was lost is looked for; one that
// arrives late finds the marker gone and does nothing. How durable it is, the server's append-only file decides;
// after a crash the old data or the new is there, whole.
func (r *restored) Switch(ctx context.Context) error {
	t := r.db
	if err := t.usable(); err != nil {
		return err
	}
	if err := t.holds(ctx); err != nil {
		return err
	}
	token, err := t.hold.Ensure(ctx)
	if err != nil {
		return err
	}
	way := newConn(t.place.options, t.place.restore)
	defer func() { _ = way.Close() }()
	defer way.until(ctx)()
	args := []any{t.mark() + r.token, t.place.db, t.place.restore, tokenText(token), lockMS}
	answer, err := switchScript.run(ctx, way, []string{markerKey, lockKey}, args)
	if err != nil && said(err) == "" {
		answer, err = r.switched(ctx, way, err)
	}
	if err != nil {
		return unasked(classify(ctx, "switch to the restored database", err))
	}
	if number(answer) == 2 {
		return nodeclient.Transient(fmt.Errorf("redis: switch to the restored database: %w", hold.ErrLost))
	}
	if number(answer) != 1 {
		return fmt.Errorf("redis: switch to the restored database: the marker of this restore is gone from the logical "+
			"database %d: restore again", t.place.restore)
	}
	t.doubt, t.safe, t.timed = nil, 0, true
	return nil
}

// switched looks what became of a switch whose answer was lost: the marker is there as long as nothing was done.
func (r *restored) switched(ctx context.Context, way *conn, failed error) (any, error) {
	way.cut()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	defer way.until(ctx)()
	marker, err := way.Get(ctx, markerKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, errors.Join(failed, err)
	}
	if marker == r.db.mark()+r.token {
		return nil, failed
	}
	live, err := readPosition(ctx, r.db.conn)
	if err != nil {
		return nil, err
	}
	if live != r.want {
		return int64(0), nil
	}
	return int64(1), nil
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	return r.db.drop(ctx, r.db.mark()+r.token)
}

// drop empties the logical database of restores when its marker begins with mark.
func (t *Database) drop(ctx context.Context, mark string) error {
	if t.place.restore < 0 {
		return nil
	}
	way := newConn(t.place.options, t.place.restore)
	defer func() { _ = way.Close() }()
	defer way.until(ctx)()
	if _, err := dropScript.run(ctx, way, []string{markerKey}, []any{mark}); err != nil {
		return classify(ctx, fmt.Sprintf("empty what a restore left in the logical database %d", t.place.restore), err)
	}
	return nil
}
