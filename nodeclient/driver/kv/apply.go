package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/broker/failpoint"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/apply"
)

// value is what a key will have; nil bytes and not there: it is deleted.
type value struct {
	bytes []byte
	there bool
}

// overlay is what increments of a batch have made of keys, above the database.
type overlay map[string]value

// Apply implements nodeclient.Database: one write and one sync for all that precedes the first failing increment.
// After a failed write the next call opens the database again; a Transient may then come with a position ahead of
// before.
func (t *Database) Apply(ctx context.Context, before event.Position, items []event.Item) (event.Position, error) {
	if err := t.usable(); err != nil {
		return t.pos, err
	}
	if ctx.Err() != nil {
		return t.pos, nodeclient.Transient(fmt.Errorf("kv: apply: %w", context.Cause(ctx)))
	}
	doubt := t.doubt
	t.doubt = event.Position{}
	if !doubt.Zero() && t.pos == doubt && t.pos != before {
		return t.pos, nodeclient.Transient(fmt.Errorf("kv: a write that had failed is stored after all: going on from %d",
			t.pos.Seq))
	}
	if err := nodeclient.CheckAdvance(t.pos, before); err != nil {
		return t.pos, err
	}
	steps, failed := apply.Prepare("kv", before, items, parse)
	made := make(overlay)
	last, done := before, 0
	for _, s := range steps {
		if err := t.step(made, s.Work); err != nil {
			if failed = err; !nodeclient.IsTransient(err) && !nodeclient.IsFatal(err) {
				failed = fmt.Errorf("kv: increment %d: %w", s.Seq(), err)
			}
			break
		}
		last = s.Pos
		done++
	}
	if done == 0 {
		return before, failed
	}
	if err := t.write(made, last); err != nil {
		if last == before && nodeclient.IsTransient(err) { // outside the order: the position tells nothing
			err = nodeclient.Unknown(err)
		}
		return t.pos, err
	}
	return t.pos, failed
}

// step adds what an increment makes to made; on an error made is as before.
func (t *Database) step(made overlay, changes []change) error {
	own := make(overlay, len(changes))
	for _, c := range changes {
		switch {
		case c.count:
			now, err := t.count(own, made, c)
			if err != nil {
				return err
			}
			own[c.key] = value{strconv.AppendInt(nil, now, 10), true}
		default:
			own[c.key] = value{c.value, c.set}
		}
	}
	maps.Copy(made, own)
	return nil
}

// count is what INCR makes of a key.
func (t *Database) count(own, made overlay, c change) (int64, error) {
	v, ok := own[c.key]
	if !ok {
		v, ok = made[c.key]
	}
	if !ok {
		stored, err := t.db.Get(dataKey(c.key))
		switch {
		case err == nil:
			v = value{stored, true}
		case !errors.Is(err, disk.ErrNotFound):
			return 0, t.trouble("read", err)
		}
	}
	var old int64
	var err error
	if v.there {
		old, err = number(v.bytes)
	}
	if err == nil {
		old, err = sum(old, c.add)
	}
	if err != nil {
		return 0, fmt.Errorf("count %q up: %w", c.key[:min(len(c.key), 64)], err)
	}
	return old, nil
}

// write makes keys and position durable as one.
func (t *Database) write(made overlay, pos event.Position) error {
	var b disk.Batch
	for _, key := range slices.Sorted(maps.Keys(made)) {
		if v := made[key]; v.there {
			b.Put(dataKey(key), v.bytes)
		} else {
			b.Delete(dataKey(key))
		}
	}
	b.Put([]byte(positionKey), encodePosition(pos))
	failpoint.Hit(failpoint.AppliedBeforeSeq) // the two are one here
	failpoint.Hit(failpoint.SeqBeforeCommit)
	if err := t.db.Write(&b); err != nil {
		t.doubt = pos
		return t.trouble(fmt.Sprintf("write up to %d", pos.Seq), err)
	}
	t.pos = pos
	return nil
}
