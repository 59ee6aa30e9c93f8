package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/hold"
)

// A logical database belongs to one node. That one keeps the key xmq_lock alive, whose value names the token of its
// session, and the script that applies a batch looks at it before it does anything. The key ends lockTime after the
// last beat, and is free as soon as the connection is gone that the server calls by the token; it is in no snapshot,
// and a switch to a restored database takes it along. Its value is the token, the server's number of the connection
// (0: not known) and the ID of the node.

const lockKey = reserved + "lock"

// lockTime is how long the key outlives its node.
const lockTime = 3 * hold.Beat

// DefaultLockWait is how long a node waits for the key of another: until it has ended, if nobody keeps it alive.
const DefaultLockWait = lockTime + hold.Beat

// lockLook is how often it looks meanwhile.
const lockLook = 200 * time.Millisecond

// lockScript takes the key: KEYS[1] the key; ARGV the value, the tokens of sessions that are gone, with spaces
// between, the milliseconds it lives. It returns "" or the value that stands there and when that ends, in
// milliseconds since 1970; or what hinders it and 0. A server without memory stores no key, and gets some by
// increments only: there a node goes on without.
var lockScript = newScript(`
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then
  return {value.err, 0}
end
if value and not (#value >= 16 and
    string.find(' ' .. ARGV[2] .. ' ', ' ' .. string.sub(value, 1, 16) .. ' ', 1, true)) then
  return {value, redis.call('PEXPIRETIME', KEYS[1])}
end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
if set.err and string.sub(set.err, 1, 4) ~= 'OOM ' then
  return {set.err, 0}
end
return {'', 0}
`)

// beatScript keeps the key alive: KEYS[1] the key; ARGV the token in it, the milliseconds it lives. 1: done.
var beatScript = newScript(`
local value = redis.pcall('GET', KEYS[1])
if type(value) ~= 'string' or string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`)

// unlockScript gives the key back: KEYS[1] the key; ARGV[1] the token in it.
var unlockScript = newScript(`
local value = redis.pcall('GET', KEYS[1])
if type(value) == 'string' and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
`)

func tokenText(token hold.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// connectionName is what the server calls the connection of a session.
func connectionName(token string) string { return "xmq-" + token }

// parseLock is what the value of the key names.
func parseLock(value string) (token, connection, node string) {
	token, rest, _ := strings.Cut(value, " ")
	connection, node, _ = strings.Cut(rest, " ")
	return token, connection, node
}

// lockMS is lockTime as the scripts take it.
var lockMS = strconv.FormatInt(lockTime.Milliseconds(), 10)

// holding is a session that holds the database.
type holding struct {
	way   *conn
	conn  *redis.Conn
	value string
}

// newHolding opens the connection of a session.
func (t *Database) newHolding(ctx context.Context, token hold.Token) holding {
	h := holding{way: newConn(t.place.options, t.place.db)}
	h.conn = h.way.Conn()
	id := int64(0) // a server that does not let itself be asked frees the key when its time has come
	if h.conn.ClientSetName(ctx, connectionName(tokenText(token))).Err() == nil {
		id, _ = h.conn.ClientID(ctx).Result()
	}
	h.value = fmt.Sprintf("%s %d %s", tokenText(token), id, t.opts.Node)
	return h
}

// gone reports whether the connection is gone that the value of a key names.
func (h holding) gone(ctx context.Context, value string) bool {
	token, connection, _ := parseLock(value)
	if id, err := strconv.ParseInt(connection, 10, 64); err != nil || id <= 0 {
		return false
	}
	list, err := h.way.Do(ctx, "CLIENT", "LIST", "ID", connection).Text()
	return err == nil && !strings.Contains(list, " name="+connectionName(token)+" ")
}

// Beat keeps the key alive. One that is gone stays gone: another may have had it.
func (h holding) Beat(ctx context.Context) error {
	defer h.way.until(ctx)()
	token, _, _ := parseLock(h.value)
	kept, err := beatScript.run(ctx, h.conn, []string{lockKey}, []any{token, lockMS})
	if err == nil && number(kept) != 1 {
		err = errors.New("the key is gone or another's")
	}
	return err
}

// lock calls lockScript.
func (h holding) lock(ctx context.Context, old []string) (value string, ends int, err error) {
	answer, err := lockScript.run(ctx, h.conn, []string{lockKey}, []any{h.value, strings.Join(old, " "), lockMS})
	f, _ := answer.([]any)
	if err != nil || len(f) != 2 {
		if err == nil {
			err = errors.New("the answer is not known to this version")
		}
		return "", 0, classify(ctx, "take the lock of the database", err)
	}
	return text(f[0]), number(f[1]), nil
}

// Close gives the key back, unless the server is away. It does so over another connection: that of the session may have
// been cut in the middle of a beat.
func (h holding) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	defer h.way.until(ctx)()
	token, _, _ := parseLock(h.value)
	_, _ = unlockScript.run(ctx, h.way, []string{lockKey}, []any{token}) // else it ends by itself
	_ = errors.Join(h.conn.Close(), h.way.Close())
}

// take is the target's hold.Taker. A key whose connection is gone is taken, one that nobody keeps alive is waited
// for.
func (t *Database) take(ctx context.Context, token hold.Token, old []hold.Token) (hold.Session, error) {
	h := t.newHolding(ctx, token)
	defer h.way.until(ctx)()
	var before []string
	for _, gone := range old {
		before = append(before, tokenText(gone))
	}
	look := time.NewTicker(lockLook)
	defer look.Stop()
	first, gone := 0, 0
	for end := time.Now().Add(t.opts.LockWait); ; {
		value, ends, err := h.lock(ctx, before)
		if err == nil && value == "" {
			return h, nil
		}
		if first == 0 {
			first = ends
		}
		if err == nil && ends > 0 && h.gone(ctx, value) {
			if gone++; gone > 1 { // it had time to come back
				ended, _, _ := parseLock(value)
				before = append(before, ended)
			}
		}
		switch {
		case err != nil:
		case ends == 0:
			err = nodeclient.Transient(fmt.Errorf("redis: take the lock of the database: %s", value))
		case ends > first || time.Now().After(end): // somebody keeps it alive
			_, connection, node := parseLock(value[:min(len(value), 128)])
			who := "connection " + connection
			if node != "" {
				who = "node " + node + ", " + who
			}
			err = nodeclient.Taken("redis", strconv.Itoa(t.place.db), who)
		default:
			select {
			case <-look.C:
				continue
			case <-ctx.Done():
				cause := context.Cause(ctx)
				err = nodeclient.Transient(fmt.Errorf("redis: wait for the lock of the database: %w", cause))
			}
		}
		_ = errors.Join(h.conn.Close(), h.way.Close())
		return nil, err
	}
}

// holds looks whether this node has the database, and takes it when it was lost.
func (t *Database) holds(ctx context.Context) error {
	for again := range 2 {
		token, err := t.hold.Ensure(ctx)
		if err != nil {
			return err
		}
		value, err := t.conn.Get(ctx, lockKey).Result()
		mine := err == nil && strings.HasPrefix(value, tokenText(token))
		if mine || again > 0 && errors.Is(err, redis.Nil) { // nobody's, without memory
			return nil
		}
		if err != nil && said(err) == "" && !errors.Is(err, redis.Nil) {
			return classify(ctx, "look who holds the database", err)
		}
		t.hold.Lost(token)
	}
	return nodeclient.Transient(fmt.Errorf("redis: %w", hold.ErrLost))
}

// heldKeys are the keys with which the script is called that applies increments.
var heldKeys = append(slices.Clone(bookKeys), lockKey)

// held calls the script that applies increments with its arguments, for the node that holds the database. When it has
// lost it, it takes it again before.
func (t *Database) held(ctx context.Context, what []any) (any, error) {
	for range 2 {
		token, err := t.hold.Ensure(ctx)
		if err != nil {
			return nil, &unheld{err}
		}
		args := append([]any{tokenText(token), lockMS}, what...)
		answer, err := applyScript.run(ctx, t.conn, heldKeys, args)
		if f, _ := answer.([]any); err != nil || len(f) != 1 || text(f[0]) != "unheld" {
			return answer, err
		}
		t.hold.Lost(token)
	}
	return nil, &unheld{nodeclient.Transient(fmt.Errorf("redis: %w", hold.ErrLost))}
}

// unheld says that nothing was done, because the node has not got its database.
type unheld struct{ error }

func (u *unheld) Unwrap() error { return u.error }
