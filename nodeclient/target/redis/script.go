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

// applyScript applies increments and moves the position: what is a transaction elsewhere. Nothing can come between, and its
// effects reach the append-only file and the replicas as one MULTI ... EXEC.
//
//	KEYS     the position, the lock
//	ARGV     token in the lock of the node that calls, and how many milliseconds that lives; log, seq, chain before; "1" when no position at all stands for that too; how many of the first increments
//	         need no memory; how many increments; then for each of them log, seq, chain after it, broker time or "",
//	         how many commands; for each command how many keys to keep, those, how many words, which of them
//	         is an ID of a stream that may have to be raised or 0, the words
//
// The position is moved first: a server that has no memory, cannot save or is a replica says so there, and once a
// script has written none of that stops it any more. Without memory the increments that need none are applied alone. A command
// that fails ends the script; what earlier commands of its increment did to the keys they name is taken back.
//
// It returns what happened, then: "unheld" nothing, another value or none stood in the lock, which a server without memory
// cannot store; "done" how many increments are applied; "refused" what the server said, nothing being
// changed; "position" the one that is stored, or what hinders it; "failed" the indices of increment and command and
// what the server said; "half" the same and why the increment could not be taken back.
var applyScript = newScript(`
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end
local place = KEYS[1]
local holder, life = take(), take()
local held = redis.pcall('GET', KEYS[2])
if type(held) ~= 'string' or string.sub(held, 1, #holder) ~= holder then
  local taken = held or redis.pcall('SET', KEYS[2], holder, 'PX', life)
  if held or not taken.err or string.sub(taken.err, 1, 4) ~= 'OOM ' then
    return {'unheld'}
  end
end
local log, seq, chain, fresh, free, n = take(), take(), take(), take(), tonumber(take()), tonumber(take())

local old = redis.pcall('HMGET', place, 'log_id', 'seq', 'chain', 'updated_at', 'topics')
if old.err then
  return {'position', old.err}
end
local there = redis.call('EXISTS', place) == 1
if there and (old[1] ~= log or old[2] ~= seq or old[3] ~= chain) or not there and fresh ~= '1' then
  return {'position', old[1], old[2], old[3], there and 1 or 0}
end

local todo, begins = {}, at
for i = 1, n do
  local step = {log = take(), seq = take(), chain = take(), time = take()}
  for j = 1, tonumber(take()) do
    local keys = {}
    for k = 1, tonumber(take()) do
      keys[k] = take()
    end
    local words, id = tonumber(take()), tonumber(take())
    step[j] = {keys = keys, from = at, to = at + words - 1, id = id}
    at = at + words
  end
  todo[i] = step
end

local function store(last)
  local time = old[4]
  for i = 1, last do
    if todo[i].time ~= '' then
      time = todo[i].time
    end
  end
  if last == 0 and not there then
    return redis.pcall('DEL', place)
  end
  local s = todo[last] or {log = log, seq = seq, chain = chain}
  local fields = {'log_id', s.log, 'seq', s.seq, 'chain', s.chain}
  if time then
    fields[7], fields[8] = 'updated_at', time
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

local function execute(c, saved, keep)
  if keep then
    for _, key in ipairs(c.keys) do
      if saved[key] == nil then
        local dump = redis.pcall('DUMP', key)
        if type(dump) == 'table' and dump.err then
          return dump.err
        end
        saved[key] = {dump = dump, till = redis.call('PEXPIRETIME', key)}
      end
    end
  end
  local answer = redis.pcall(unpack(ARGV, c.from, c.to))
  if type(answer) == 'table' and answer.err and c.id > 0 then
    local id = raised(c.keys[1] or ARGV[c.from + 1], ARGV, answer.err)
    if id then
      local words = {unpack(ARGV, c.from, c.to)}
      words[c.id] = id
      answer = redis.pcall(unpack(words))
    end
  end
  return type(answer) == 'table' and answer.err
end

for i = 1, n do
  local step, saved = todo[i], {}
  for j, c in ipairs(step) do
    local err = execute(c, saved, j < #step)
    if err then
      local undo
      for key, s in pairs(saved) do
        local answer = redis.pcall('UNLINK', key)
        if s.dump then
          answer = redis.pcall('RESTORE', key, math.max(s.till, 0), s.dump, 'ABSTTL')
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
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.pcall('SET', KEYS[2], held or holder, 'PX', life)
end
return {'done', n}
`)

// readScript reads keys as they are: KEYS; ARGV[1] is the number of bytes behind which it stops. It returns how many of the
// keys it has looked at, then for each that is there its number, its expiry in milliseconds since 1970 or -1, its DUMP.
var readScript = newScript(`
local out, size = {0}, 0
for i, key in ipairs(KEYS) do
  local dump = redis.call('DUMP', key)
  if dump then
    out[#out + 1] = i
    out[#out + 1] = redis.call('PEXPIRETIME', key)
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

// claimScript takes a logical database for a restore: KEYS[1] the marker; ARGV the mark of this target, the token of this restore.
// It returns "" or the mark of whoever has it; "?" for data that no restore has put there.
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

// dropScript empties the logical database of a restore when the marker begins as ARGV[1] says: KEYS[1] the marker. 1: it was so.
var dropScript = newScript(`
local mark = redis.pcall('GET', KEYS[1])
if type(mark) ~= 'string' or string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('FLUSHDB', 'ASYNC')
return 1
`)

// switchScript makes the loaded database the live one, when its marker still is this restore's, so that a call that arrives
// late or twice does nothing: KEYS the marker, the lock; ARGV the marker's value, the numbers of the live and the fresh
// database, the token in the lock and how many milliseconds that lives. It is called in the fresh one. 1: done; 2: this node does not
// hold the live one. Crash and replica see all of it or nothing, as of every script.
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
