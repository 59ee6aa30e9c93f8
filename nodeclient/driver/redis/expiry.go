package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"xmq/broker/event"
	"xmq/broker/units"
	"xmq/nodeclient"
)

const (
	// expiryKey is a sorted set of all keys that have a time to live: scored with the time of the log, in ms since
	// 1970, that ends them.
	expiryKey = reserved + "expiry"
	// maxTime is the latest such time, which a score still holds exactly; later ones count as this one.
	maxTime = 1<<53 - 1
	// spareTime is how much later than that, or than now where that is later, Redis itself ends a key: when no node
	// has come by until then. It is far longer than a node is expected to stand still.
	spareTime = 7 * 24 * time.Hour
	// dueKeys is how many keys one call ends at most: a server does nothing else meanwhile.
	dueKeys = 10_000
)

// ending is the part of scripts that ends keys. index is the sorted set of the keys' times, low the lowest of them or
// lower, nil without any; wall is the server's clock, spare the time for which Redis itself keeps a key longer; all of
// them numbers in ms.
const ending = `
local index, low, wall, spare = KEYS[2], nil, 0, 0

local function lowest()
  local first = redis.call('ZRANGE', index, '0', '0', 'WITHSCORES')
  low = first[2] and tonumber(first[2]) or nil
  return low
end

local function now()
  local time = redis.call('TIME')
  wall = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  return wall
end

local function whole(number)
  return string.format('%.0f', number)
end

-- forbidden says what the user may not do of what a script does once it has begun, when nothing can be refused.
local function forbidden()
  for _, c in ipairs({{'ZADD', index, '1', 'x'}, {'ZREM', index, 'x'}, {'ZSCORE', index, 'x'},
      {'ZRANGEBYSCORE', index, '0', '0'}, {'UNLINK', 'x'}, {'EXISTS', 'x'}, {'PEXPIRETIME', 'x'}}) do
    if not redis.acl_check_cmd(unpack(c)) then
      return 'NOPERM the user may not call ' .. c[1] .. ', by which keys get and lose their times'
    end
  end
end

-- later is when Redis itself ends a key that the log ends at time.
local function later(time)
  return whole(math.max(time, wall) + spare)
end

-- due ends at most room keys whose time has come, and returns how much room is left.
local function due(time, room)
  while low and low <= time and room > 0 do
    local keys = redis.call('ZRANGEBYSCORE', index, '-inf', whole(time), 'LIMIT', '0', whole(math.min(room, 1000)))
    if #keys > 0 then
      redis.call('UNLINK', unpack(keys))
      redis.call('ZREM', index, unpack(keys))
      room = room - #keys
    end
    lowest()
  end
  return room
end
`

// expireScript ends keys whose time has come.
//
//	KEYS[1]  the position, KEYS[2] the times of the keys
//	ARGV     log, seq, chain of the position; time of the log in ms; how many keys at most; spare
//
// It returns "position" as applyScript does, or "done", whether there are more of them, whether any key has a time,
// whether Redis may have ended keys by itself (2) or will in the second half of the spare time (1).
var expireScript = newScript(ending + `
local old = redis.pcall('HMGET', KEYS[1], 'log_id', 'seq', 'chain', 'expiry')
if old.err then
  return {'position', old.err}
end
if old[1] ~= ARGV[1] or old[2] ~= ARGV[2] or old[3] ~= ARGV[3] then
  return {'position', old[1], old[2], old[3], redis.call('EXISTS', KEYS[1])}
end
if not lowest() then
  return {'done', 0, 0, 0}
end
local time = tonumber(ARGV[4])
spare = tonumber(ARGV[6])
due(time, tonumber(ARGV[5]))
now()
local safe, doubt = tonumber(old[4] or 0), 0
if low and safe < wall then
  doubt = 2
elseif low and safe < wall + spare / 2 then
  doubt = 1
end
return {'done', low and low <= time and 1 or 0, low and 1 or 0, doubt}
`)

// stretchScript makes Redis keep keys for the whole spare time from now: those whose time is over by the server's
// clock, and not yet by the log. All others are kept for as long anyway.
//
//	KEYS[1]  not used, KEYS[2] the times of the keys
//	ARGV     rank of the first key, how many, spare, "1" when keys that are gone are to be forgotten
//
// It returns the rank after the last key it has looked at, or -1 after all of them; the server's clock in ms; how
// many of them are gone, and one of these.
var stretchScript = newScript(ending + `
local from, count = tonumber(ARGV[1]), tonumber(ARGV[2])
spare = tonumber(ARGV[3])
now()
local forget, gone, name = ARGV[4] == '1', 0, ''
local keys = redis.call('ZRANGE', index, whole(from), whole(from + count - 1), 'WITHSCORES')
local rank = #keys < 2 * count and -1 or from + count
for i = 1, #keys, 2 do
  if tonumber(keys[i + 1]) > wall then
    rank = -1
    break
  end
  local till = redis.call('PEXPIRETIME', keys[i])
  if till == -2 then
    gone, name = gone + 1, keys[i]
    if forget then
      redis.call('ZREM', index, name)
    end
  elseif till < wall + spare then
    redis.call('PEXPIREAT', keys[i], whole(wall + spare))
  end
end
if forget and rank > 0 then
  rank = rank - gone
end
return {rank, wall, gone, name}
`)

// adoptScript takes keys with a time to live of Redis' own into the index: KEYS[1] is not used, KEYS[2] the times of
// the keys, the others the keys; ARGV spare. One that is there already stays as it is.
var adoptScript = newScript(ending + `
spare = tonumber(ARGV[1])
now()
for i = 3, #KEYS do
  local till = redis.call('PEXPIRETIME', KEYS[i])
  if till >= 0 and not redis.call('ZSCORE', index, KEYS[i]) then
    till = math.min(till, 9007199254740991)
    redis.call('ZADD', index, whole(till), KEYS[i])
    redis.call('PEXPIREAT', KEYS[i], later(till))
  end
end
return 0
`)

// safeScript stores until when Redis ends no key by itself: KEYS[1] the position, where there is one; ARGV that time
// in ms.
var safeScript = newScript(`
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  redis.call('HSET', KEYS[1], 'expiry', ARGV[1])
end
return 0
`)

// bookKeys are the keys with which scripts are called that deal with times.
var bookKeys = []string{positionKey, expiryKey}

// millis is a time of the log in ms, as scripts take it.
func millis(ns int64) string { return strconv.FormatInt(max(ns, 0)/1e6, 10) }

// spares is how long Redis keeps keys longer, as scripts take it.
func (t *Database) spares() string { return strconv.FormatInt(t.spare.Milliseconds(), 10) }

// Expire implements nodeclient.Timed. One call ends dueKeys keys at most.
func (t *Database) Expire(ctx context.Context, at event.Position, until int64) (more bool, err error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	defer t.conn.until(ctx)()
	if err := t.holds(ctx); err != nil {
		return false, err
	}
	if err := t.adopt(ctx); err != nil {
		return false, err
	}
	if err := t.keepDue(ctx, until); err != nil {
		return false, err
	}
	more, doubt, err := t.expire(ctx, at, until)
	if err != nil || more || doubt == 0 {
		return more, err
	}
	return false, t.stretch(ctx, at, until)
}

// expire is one call of the script.
func (t *Database) expire(ctx context.Context, at event.Position, until int64) (more bool, doubt int, err error) {
	args := append(words(at), millis(until), strconv.Itoa(dueKeys), t.spares())
	answer, err := expireScript.run(ctx, t.conn, bookKeys, args)
	if err != nil {
		return false, 0, unasked(classify(ctx, "end keys whose time has come", err))
	}
	f, _ := answer.([]any)
	if len(f) > 0 && text(f[0]) == "position" {
		if slot := t.doubt; len(slot) > 0 { // the next Apply sees to it
			return false, 0, nil
		}
		_, err := t.compare(at, f)
		return false, 0, err
	}
	if len(f) != 4 {
		return false, 0, fields("end keys whose time has come", f)
	}
	_ = t.hold.Advance(at, at) // it was found there
	t.timed = number(f[2]) == 1
	return number(f[1]) == 1, number(f[3]), nil
}

// adopt makes the index of a database of an earlier revision, whose keys have their times in Redis alone. One that was
// interrupted is begun again. In a database without a position nothing notes that it was done: Apply does, with the
// first position.
func (t *Database) adopt(ctx context.Context) error {
	if t.safe != 0 {
		return nil
	}
	fail := func(err error) error { return classify(ctx, "take over the times to live of keys", err) }
	stored, err := t.conn.HGet(ctx, positionKey, "expiry").Result()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return lost(errors.New("it is no hash"))
	}
	if err == nil {
		if t.safe, err = strconv.ParseInt(stored, 10, 64); err != nil || t.safe <= 0 {
			t.safe = 0
			return lost(fmt.Errorf("its field expiry is %.40q", stored))
		}
		return nil
	}
	if !errors.Is(err, redis.Nil) {
		return fail(err)
	}
	clock, err := t.conn.Time(ctx).Result()
	if err != nil {
		return fail(err)
	}
	for cursor := uint64(0); ; {
		var names []string
		if names, cursor, err = t.conn.Scan(ctx, cursor, "", scanCount).Result(); err != nil {
			return fail(err)
		}
		keys := append([]string{}, bookKeys...)
		for _, name := range names {
			if !strings.HasPrefix(name, reserved) {
				keys = append(keys, name)
			}
		}
		if _, err := adoptScript.run(ctx, t.conn, keys, []any{t.spares()}); err != nil {
			return fail(err)
		}
		if cursor == 0 {
			break
		}
	}
	return t.secure(ctx, clock.Add(t.spare).UnixMilli())
}

// secure stores that Redis itself ends no key before a time in ms.
func (t *Database) secure(ctx context.Context, safe int64) error {
	if _, err := safeScript.run(ctx, t.conn, bookKeys, []any{safe}); err != nil {
		return classify(ctx, "store until when keys are kept", err)
	}
	t.safe = safe
	return nil
}

// stretch makes Redis keep all keys for the whole spare time again, after the position at, whose next increment has
// the time until or a later one. Keys that Redis has ended although the log has not are Fatal.
func (t *Database) stretch(ctx context.Context, at event.Position, until int64) error {
	var doubt int
	for more := true; more; {
		var err error
		if more, doubt, err = t.expire(ctx, at, until); err != nil || doubt == 0 && !more {
			return err
		}
	}
	clock, gone, name, err := t.walk(ctx, false)
	if err != nil {
		return err
	}
	if gone > 0 && doubt == 2 {
		return nodeclient.Fatal(fmt.Errorf("redis: this node has stood still for so long that Redis itself, %s after "+
			"their time, has ended %s (%.64q is one of them) which increments after %d may still need: restore this copy "+
			"from another node, or accept it as it is and seek to %d", t.spare, units.Of(uint64(gone), "key"), name, at.Seq,
			at.Seq+1))
	}
	return t.secure(ctx, clock+t.spare.Milliseconds())
}

// accept takes the keys as they are: an operator has named a position for them.
func (t *Database) accept(ctx context.Context) error {
	clock, _, _, err := t.walk(ctx, true)
	if err != nil {
		return err
	}
	return t.secure(ctx, clock+t.spare.Milliseconds())
}

// walk runs stretchScript over all keys. clock is the server's at its beginning, in ms.
func (t *Database) walk(ctx context.Context, forget bool) (clock int64, gone int, name string, err error) {
	for from := 0; from >= 0; {
		answer, err := stretchScript.run(ctx, t.conn, bookKeys, []any{from, scanCount, t.spares(), forget})
		if err != nil {
			return 0, 0, "", unasked(classify(ctx, "keep keys for longer", err))
		}
		f, _ := answer.([]any)
		if len(f) != 4 {
			return 0, 0, "", fields("keep keys for longer", f)
		}
		if clock == 0 {
			clock = int64(number(f[1]))
		}
		from, gone = number(f[0]), gone+number(f[2])
		if text(f[3]) != "" {
			name = text(f[3])
		}
	}
	return clock, gone, name, nil
}

// keepDue saves, for an open snapshot, the keys that end by the time until.
func (t *Database) keepDue(ctx context.Context, until int64) error {
	s := t.open
	if s == nil || s.over() || until <= 0 {
		return nil
	}
	for from := int64(0); ; from += scanCount {
		due, err := t.conn.ZRangeWithScores(ctx, expiryKey, from, from+scanCount-1).Result()
		if err != nil {
			return classify(ctx, "keep old values for a snapshot", err)
		}
		var keys []string
		for _, z := range due {
			if int64(z.Score) <= until/1e6 {
				name, _ := z.Member.(string)
				keys = append(keys, name)
			}
		}
		if err := s.saveAll(ctx, keys); err != nil || len(keys) < scanCount {
			return err
		}
	}
}

// fields is the error of an answer that this version does not know.
func fields(what string, f []any) error {
	return nodeclient.Transient(fmt.Errorf("redis: %s: the answer of the script has %d fields", what, len(f)))
}
