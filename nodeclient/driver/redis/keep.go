package redis

import (
	"bufio"
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"xmq/nodeclient"
)

// keep saves, for an open snapshot, the old values of the keys that steps are about to change.
func (t *Database) keep(ctx context.Context, steps []step) error {
	s := t.open
	if s == nil || s.over() {
		t.open = nil
		return nil
	}
	var keys []string
	for _, step := range steps {
		for _, o := range step.Work {
			if o.flushes() {
				return s.wait(ctx)
			}
			for _, key := range o.keys {
				keys = append(keys, string(key))
			}
		}
	}
	if err := t.keepDue(ctx, last(steps)); err != nil {
		return err
	}
	return s.saveAll(ctx, keys)
}

// last is the latest broker time of steps.
func last(steps []step) (ns int64) {
	for _, s := range steps {
		ns = max(ns, s.Time)
	}
	return ns
}

// saveAll saves the old values of keys.
func (s *snapshot) saveAll(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n, err := s.save(ctx, keys)
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// wait waits for the end of the snapshot.
func (s *snapshot) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return nodeclient.Transient(fmt.Errorf("redis: wait for the end of a snapshot: %w", context.Cause(ctx)))
	}
}

// save saves the old values of the first n of keys, of those that have not changed yet. It waits while too much waits.
func (s *snapshot) save(ctx context.Context, keys []string) (n int, err error) {
	if err := s.takeRoom(ctx); err != nil || s.over() {
		return len(keys), err
	}
	defer s.give()
	var ask []string
	seen := make(map[string]bool)
	for n < len(keys) && len(ask) < scanCount {
		key := keys[n]
		if _, changed := s.touched[key]; !changed && !seen[key] {
			seen[key] = true
			ask = append(ask, key)
		}
		n++
	}
	if len(ask) == 0 {
		return n, nil
	}
	entries, read, err := readKeys(ctx, s.db.conn, ask)
	if err != nil {
		return 0, classify(ctx, "keep old values for a snapshot", err)
	}
	for _, key := range ask[:read] {
		s.touched[key] = struct{}{}
		s.touchedBytes += len(key) + 64
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.waiting = append(s.waiting, e)
		s.waitingBytes += e.size()
	}
	if read < len(ask) { // those read are known now; the rest comes with the next call
		return 0, nil
	}
	return n, nil
}

// takeRoom takes the turn when there is room for old values; on an error, and when the snapshot is over, it does not
// hold it.
func (s *snapshot) takeRoom(ctx context.Context) error {
	for {
		select {
		case <-s.done:
			return nil
		default:
		}
		if err := s.take(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		full := s.waitingBytes > s.limit
		s.mu.Unlock()
		if s.over() {
			s.give()
			return nil
		}
		if !full && s.touchedBytes <= maxTouched {
			return nil
		}
		names := s.touchedBytes > maxTouched
		s.give()
		if names {
			if err := s.wait(ctx); err != nil {
				return err
			}
			continue
		}
		select {
		case <-s.drained:
		case <-s.done:
		case <-ctx.Done():
			return nodeclient.Transient(fmt.Errorf("redis: wait for the writer of a snapshot: %w", context.Cause(ctx)))
		}
	}
}

// readKeys reads the first n of names, about readBytes bytes of them. Those that are not there are left out.
func readKeys(ctx context.Context, c redis.Cmdable, names []string) (entries []entry, n int, err error) {
	if len(names) == 0 {
		return nil, 0, nil
	}
	answer, err := readScript.run(ctx, c, names, []any{readBytes, expiryKey})
	if err != nil {
		return nil, 0, err
	}
	f, _ := answer.([]any)
	if len(f)%3 != 1 {
		return nil, 0, fmt.Errorf("the answer of the reading script has %d fields", len(f))
	}
	for i := 1; i < len(f); i += 3 {
		entries = append(entries, entry{key: names[number(f[i])-1], till: max(int64(number(f[i+1])), 0), dump: text(f[i+2])})
	}
	if n = number(f[0]); n < 1 || n > len(names) {
		return nil, 0, fmt.Errorf("the reading script has looked at %d of %d keys", n, len(names))
	}
	return entries, n, nil
}

// pack counts entries and gathers them into pieces as large as frames.
type pack struct {
	*bufio.Writer
	count uint64
}

func (p *pack) write(entries []entry) error {
	for _, e := range entries {
		if err := e.write(p); err != nil {
			return err
		}
		p.count++
	}
	return nil
}
