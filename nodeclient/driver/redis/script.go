package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// script is one Lua program. A server knows it by its digest once it has seen it.
type script struct{ text, digest string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text))
	return script{text, hex.EncodeToString(sum[:])}
}

// run calls the script once. A server that does not know it has done nothing, and is told the text.
func (s script) run(ctx context.Context, c redis.Cmdable, keys []string, args []any) (any, error) {
	answer, err := c.EvalSha(ctx, s.digest, keys, args...).Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = c.Eval(ctx, s.text, keys, args...).Result()
	}
	return answer, err
}

// applyScript applies increments and moves the position: what is a transaction elsewhere. Nothing can come between,
// and its effects reach the append-only file and the replicas as one MULTI ... EXEC.
//
//	KEYS[1]  the position, KEYS[2] the times of the keys, KEYS[3] the lock
//	ARGV     token in the lock of the node that calls, and how many milliseconds that lives; log, seq, chain before;
//	         "1" when no position at all stands for that too; how many of the first increments need no memory;
//	         "1" when times count; until when Redis ends no key by itself, spare; how many keys may be
//	         ended, how many increments; then for each of them log, seq, chain after it, broker time or "" and in ms,
//	         how many arguments its commands have, how many commands; for each command how many keys, those, how many
//	         words, how it is treated (see raised) with the word this is about, the words
//
// The position is moved first: a server that has no memory, cannot save or is a replica says so there, and once a
// script has written none of that stops it any more. Without memory the increments that need none are applied alone.
// A command that fails ends the script; what earlier commands of its increment did to the keys they name is taken
// back.
//
// Before an increment, keys end whose time has come by its own. A key has a time of Redis' own, which is later,
// exactly when it has one in the index: what drops, keeps, renames or copies the one is seen from it. When times do
// not count, the keys of commands are those to be kept only, and none may have a time.
//
// It returns what happened, then: "unheld" nothing, another value or none stood in the lock, which a server without
// memory cannot store; "done" how many increments are applied, whether any key has a time, whether half of the spare
// time is over; "due" and "late" how many increments, before more keys than may be ended and before Redis may have
// ended keys by itself; "timed" nothing: times count; "refused" what the server said, nothing being changed;
// "position" the one that is stored, or what hinders it; "failed" the indices of increment and command and what the
// server said; "half" the same and why the increment could not be taken back.
//
// Most increments are one command that is treated in no special way, in a database where no key has a time: those go
// from the arguments to the server without a detour.
var applyScript = newScript(ending + `
local argv, ask, unpack, tonumber, type = ARGV, redis.pcall, unpack, tonumber, type
local at = 1
local function take()
  at = at + 1
  return argv[at - 1]
end
local place = KEYS[1]
local holder, life = take(), take()
local held = redis.pcall('GET', KEYS[3])
if type(held) ~= 'string' or string.sub(held, 1, #holder) ~= holder then
  local taken = held or redis.pcall('SET', KEYS[3], holder, 'PX', life)
  if held or not taken.err or string.sub(taken.err, 1, 4) ~= 'OOM ' then
    return {'unheld'}
  end
end
local log, seq, chain, fresh, free = take(), take(), take(), take(), tonumber(take())
local timed, safe, room, n = take() == '1', take(), 0, 0
spare, room, n = tonumber(take()), tonumber(take()), tonumber(take())

local old = redis.pcall('HMGET', place, 'log_id', 'seq', 'chain', 'updated_at', 'topics', 'expiry')
if old.err then
  return {'position', old.err}
end
local there = redis.call('EXISTS', place) == 1
if there and (old[1] ~= log or old[2] ~= seq or old[3] ~= chain) or not there and fresh ~= '1' then
  return {'position', old[1], old[2], old[3], there and 1 or 0}
end

if lowest() and not timed then
  return {'timed'}
end
if timed then
  local lacks = forbidden()
  if lacks then
    return {'refused', lacks}
  end
  now()
end
safe = old[6] or safe
local late = tonumber(safe) < wall

-- begins is where the arguments of each increment begin.
local begins = {}
for i = 1, n do
  begins[i] = at
  at = at + 7 + tonumber(argv[at + 5])
end

-- parse is an increment: its commands, and its time in ms.
local function parse(i)
  at = begins[i] + 7
  local step = {ms = tonumber(argv[at - 3])}
  for j = 1, tonumber(argv[at - 1]) do
    local keys = {}
    for k = 1, tonumber(take()) do
      keys[k] = take()
    end
    local words, how = tonumber(take()), take()
    local c = {keys = keys, from = at, to = at + words - 1}
    if how ~= '0' then
      c.how, c.word = string.sub(how, 1, 1), tonumber(string.sub(how, 2))
    end
    step[j] = c
    at = at + words
  end
  return step
end

local function store(last)
  local time = old[4]
  for i = last, 1, -1 do
    if argv[begins[i] + 3] ~= '' then
      time = argv[begins[i] + 3]
      break
    end
  end
  if last == 0 and not there then
    return redis.pcall('DEL', place)
  end
  local fields = {'log_id', log, 'seq', seq, 'chain', chain, 'expiry', safe}
  if last > 0 then
    local b = begins[last]
    fields[2], fields[4], fields[6] = argv[b], argv[b + 1], argv[b + 2]
  end
  if time then
    fields[#fields + 1], fields[#fields + 2] = 'updated_at', time
  end
  if old[5] then
    fields[#fields + 1], fields[#fields + 2] = 'topics', old[5]
  end
  return redis.pcall('HSET', place, unpack(fields))
end

local moved = store(n)
if type(moved) == 'table' and moved.err then
  if free == 0 or string.sub(moved.err, 1, 4) ~= 'OOM ' then
    return {'refused', moved.err}
  end
  n = free
  redis.call('DEL', place)
  store(n)
end

local function raised(key, words, err)
  if not string.find(err, 'equal or smaller', 1, true) then
    return nil
  end
  local info = redis.pcall('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return string.match(info[i + 1], '^%d+') .. '-*'
    end
  end
end

-- sets makes time the one that ends key, at time ms of the log.
local function sets(key, time, ms)
  if time <= ms then
    redis.call('UNLINK', key)
    redis.call('ZREM', index, key)
  else
    redis.call('ZADD', index, whole(time), key)
    if not low or time < low then
      low = time
    end
  end
end

-- follow brings the index after a command that has succeeded; was are the times that its keys had.
local function follow(c, was, time, native, answer, ms)
  if c.how == 'f' then
    low = nil
  elseif c.how == 'm' then
    local from, to = c.keys[1], c.keys[2]
    if from ~= to and (answer == 1 or type(answer) == 'table') then
      if was[1] then
        redis.call('ZADD', index, was[1], to)
        if redis.call('EXISTS', from) == 0 then
          redis.call('ZREM', index, from)
        end
      elseif was[2] then
        redis.call('ZREM', index, to)
      end
    end
  elseif time and c.how ~= 'x' then
    if answer == 1 or type(answer) == 'table' or type(answer) == 'string' then
      for _, key in ipairs(c.keys) do
        sets(key, time, ms)
      end
    end
  else
    for i, key in ipairs(c.keys) do
      if native and redis.call('PEXPIRETIME', key) == native then
        sets(key, time, ms)
      elseif was[i] and redis.call('PEXPIRETIME', key) < 0 then
        redis.call('ZREM', index, key)
      end
    end
  end
end

-- aim puts the time at which Redis itself ends the keys of a command into its words. It returns the time of the log
-- and that one; nil when the condition of the command does not hold.
local function aim(c, was)
  local time = tonumber(ARGV[c.from + c.word])
  if c.how == 'g' and (not was[1] or time <= tonumber(was[1])) or
      c.how == 'l' and was[1] and time >= tonumber(was[1]) then
    return nil
  end
  local native = math.max(time, wall) + spare
  if c.how == 'x' and redis.call('PEXPIRETIME', c.keys[1]) == native then
    native = native + 1
  end
  ARGV[c.from + c.word] = whole(native)
  return time, native
end

local function execute(c, saved, keep, ms)
  local how, was, time, native = c.how, {}, nil, nil
  if low and (keep or how ~= 't') then
    for i, key in ipairs(c.keys) do
      was[i] = redis.call('ZSCORE', index, key)
    end
  end
  if keep then
    for i, key in ipairs(c.keys) do
      if saved[key] == nil then
        local dump = redis.pcall('DUMP', key)
        if type(dump) == 'table' and dump.err then
          return dump.err
        end
        saved[key] = {dump = dump, till = redis.call('PEXPIRETIME', key), time = was[i]}
      end
    end
  end
  if how == 't' or how == 'x' or how == 'g' or how == 'l' then
    time, native = aim(c, was)
    if not time then
      return nil
    end
  end
  local answer = redis.pcall(unpack(ARGV, c.from, c.to))
  if how == 'i' and type(answer) == 'table' and answer.err then
    local id = raised(c.keys[1] or ARGV[c.from + 1], ARGV, answer.err)
    if id then
      local words = {unpack(ARGV, c.from, c.to)}
      words[c.word] = id
      answer = redis.pcall(unpack(words))
    end
  end
  if type(answer) == 'table' and answer.err then
    return answer.err
  end
  if low or time then
    follow(c, was, time, native, answer, ms)
  end
end

-- plainly runs an increment of one command that is treated in no special way and needs no key kept. It returns nil when
-- it is not of that kind, else whether the server has refused it, which changes nothing and is to be said.
local function plainly(i)
  local b = begins[i]
  if argv[b + 6] ~= '1' then
    return nil
  end
  local from = b + 8 + tonumber(argv[b + 7])
  if argv[from + 1] ~= '0' then
    return nil
  end
  local answer = ask(unpack(argv, from + 2, from + 1 + tonumber(argv[from])))
  if type(answer) == 'table' and answer.err then
    return answer.err
  end
  return ''
end

for i = 1, n do
  local said = not low and plainly(i) or nil
  local step, saved
  if not said then
    step, saved = parse(i), {}
  elseif said ~= '' then
    store(i - 1)
    return {'failed', i - 1, 0, said}
  else
    step = {}
  end
  if low and #step > 0 then
    room = due(step.ms, room)
    local why = low and (low <= step.ms and 'due' or late and 'late')
    if why then
      store(i - 1)
      return {why, i - 1}
    end
  end
  for j, c in ipairs(step) do
    local err = execute(c, saved, j < #step, step.ms)
    if err then
      local undo
      for key, s in pairs(saved) do
        local answer = redis.pcall('UNLINK', key)
        if s.dump then
          answer = redis.pcall('RESTORE', key, whole(math.max(s.till, 0)), s.dump, 'ABSTTL')
        end
        if s.time then
          redis.call('ZADD', index, s.time, key)
        elseif timed then
          redis.call('ZREM', index, key)
        end
        if type(answer) == 'table' and answer.err then
          undo = answer.err
        end
      end
      store(i - 1)
      if undo then
        return {'half', i - 1, j - 1, err, undo}
      end
      return {'failed', i - 1, j - 1, err}
    end
  end
end
store(n)
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.pcall('SET', KEYS[3], held or holder, 'PX', life)
end
local doubt = tonumber(safe) < wall + spare / 2 and 1 or 0
return {'done', n, lowest() and 1 or 0, doubt}
`)

// readScript reads keys as they are: KEYS; ARGV the number of bytes after which it stops, and the times of the keys.
// It returns how many of the keys it has looked at, then for each that is there its number, the time of the log that
// ends it in ms, else Redis' own, else -1, and its DUMP.
var readScript = newScript(`
local out, size = {0}, 0
local timed = redis.call('EXISTS', ARGV[2]) == 1
for i, key in ipairs(KEYS) do
  local dump = redis.call('DUMP', key)
  if dump then
    out[#out + 1] = i
    out[#out + 1] = timed and tonumber(redis.call('ZSCORE', ARGV[2], key)) or redis.call('PEXPIRETIME', key)
    out[#out + 1] = dump
    size = size + #dump
  end
  out[1] = i
  if size >= tonumber(ARGV[1]) then
    break
  end
end
return out
`)

// seekScript stores a position, also over one that is no good: KEYS[1] the position; ARGV log, seq, chain.
var seekScript = newScript(`
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
redis.call('PERSIST', KEYS[1])
return redis.call('HSET', KEYS[1], 'log_id', ARGV[1], 'seq', ARGV[2], 'chain', ARGV[3])
`)

// keepScript stores topics beside the position: KEYS[1] the position; ARGV the topics. 0: there is no position.
var keepScript = newScript(`
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  return 0
end
redis.call('HSET', KEYS[1], 'topics', ARGV[1])
return 1
`)

// claimScript takes a logical database for a restore: KEYS[1] the marker; ARGV the mark of this target, the token of
// this restore. It returns "" or the mark of whoever has it; "?" for data that no restore has put there.
var claimScript = newScript(`
if redis.call('DBSIZE') > 0 then
  local mark = redis.pcall('GET', KEYS[1])
  if type(mark) ~= 'string' then
    return '?'
  end
  if string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then
    return mark
  end
  redis.call('FLUSHDB', 'ASYNC')
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return ''
`)

// dropScript empties the logical database of a restore when the marker begins as ARGV[1] says: KEYS[1] the marker. 1:
// it was so.
var dropScript = newScript(`
local mark = redis.pcall('GET', KEYS[1])
if type(mark) ~= 'string' or string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('FLUSHDB', 'ASYNC')
return 1
`)

// switchScript makes the loaded database the live one, when its marker still is this restore's, so that a call that
// arrives late or twice does nothing: KEYS the marker, the lock; ARGV the marker's value, the numbers of the live and
// the fresh database, the token in the lock and how many milliseconds that lives. It is called in the fresh one. 1:
// done; 2: this node does not hold the live one. Crash and replica see all of it or nothing, as of every script.
var switchScript = newScript(`
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SELECT', ARGV[2])
local holder = redis.pcall('GET', KEYS[2])
redis.call('SELECT', ARGV[3])
if type(holder) ~= 'string' or string.sub(holder, 1, #ARGV[4]) ~= ARGV[4] then
  return 2
end
redis.pcall('SET', KEYS[2], holder, 'PX', ARGV[5])
redis.call('DEL', KEYS[1])
redis.call('SWAPDB', ARGV[2], ARGV[3])
redis.call('FLUSHDB', 'ASYNC')
return 1
`)
