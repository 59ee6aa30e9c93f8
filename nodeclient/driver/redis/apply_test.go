package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/hold"
	"xmq/nodeclient/driver/servertest/redistest"
)

// node is an open target on a logical database of its own, with the log that feeds it and another client.
type node struct {
	*testing.T
	*Database
	log   *drivertest.Log
	other *redis.Client
	srv   *redistest.Server
	db    int
	url   string
}

func newNode(t *testing.T) *node { return nodeOn(t, server, server.Addr()) }

// nodeOn makes a node whose way to the server is addr.
func nodeOn(t *testing.T, srv *redistest.Server, addr string) *node {
	t.Helper()
	db := databases.of(t.TempDir())
	target, err := Open(t.Context(), redistest.URL(addr, db), Options{LockBeat: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	return &node{t, target, drivertest.NewLog(7), client(t, srv, db), srv, db, srv.URL(db)}
}

// at is the stored position, or the start of the log.
func (n *node) at() event.Position {
	n.Helper()
	pos, err := readPosition(context.Background(), n.other)
	require.NoError(n, err)
	if pos.Zero() {
		return event.Start(7)
	}
	return pos
}

func (n *node) items(scripts ...string) []event.Item { return n.log.Scripts(scripts...) }

// run applies scripts as one batch.
func (n *node) run(scripts ...string) {
	n.Helper()
	_, err := n.Apply(n.Context(), n.at(), n.items(scripts...))
	require.NoError(n, err)
	require.Equal(n, n.log.At(), n.at())
}

// fails applies scripts as one batch of which the i-th, from 0, must FAIL. The log then goes on from there.
func (n *node) fails(i int, scripts ...string) error {
	n.Helper()
	want := n.at()
	items := n.items(scripts...)
	applied, err := n.Apply(n.Context(), want, items)
	if i > 0 {
		want = items[i-1].Pos
	}
	require.ErrorContains(n, err, fmt.Sprintf("increment %d: ", items[i].Pos.Seq), "%.100q", scripts[i])
	require.False(n, nodeclient.IsTransient(err) || nodeclient.IsFatal(err), err)
	require.Equal(n, want.Seq, applied.Seq)
	require.Equal(n, want, n.at())
	require.NoError(n, n.Seek(n.Context(), items[len(items)-1].Pos))
	return err
}

// do asks as another client would.
func (n *node) do(words ...any) any {
	n.Helper()
	answer, err := n.other.Do(n.Context(), words...).Result()
	if err == redis.Nil {
		return nil
	}
	require.NoError(n, err)
	return answer
}

// contents is every key of the database but XMQ's own: type, expiry and value, comparable between servers.
func (n *node) contents() map[string]string { return contents(n.T, n.other) }

func contents(t *testing.T, c *redis.Client) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, key := range c.Keys(t.Context(), "*").Val() {
		if strings.HasPrefix(key, reserved) {
			continue
		}
		var v any
		switch kind := c.Type(t.Context(), key).Val(); kind {
		case "string":
			v = c.Get(t.Context(), key).Val()
		case "list":
			v = c.LRange(t.Context(), key, 0, -1).Val()
		case "hash":
			v = c.HGetAll(t.Context(), key).Val()
		case "set":
			v = slices.Sorted(maps.Keys(c.SMembersMap(t.Context(), key).Val()))
		case "zset":
			v = c.ZRangeWithScores(t.Context(), key, 0, -1).Val()
		case "stream":
			v = fmt.Sprint(c.XRange(t.Context(), key, "-", "+").Val(), c.Do(t.Context(), "XINFO", "GROUPS", key).Val(),
				c.Do(t.Context(), "XINFO", "STREAM", key).Val())
		}
		all[key] = fmt.Sprintf("%d %q", endOf(t, c, key), fmt.Sprint(v))
	}
	return all
}

// endOf is the time of the log that ends a key, in ms; -1 without one. Redis' own is later, or there is none either.
func endOf(t *testing.T, c *redis.Client, key string) int64 {
	t.Helper()
	own, err := c.Do(t.Context(), "PEXPIRETIME", key).Int64()
	require.NoError(t, err)
	end, err := c.ZScore(t.Context(), expiryKey, key).Result()
	if errors.Is(err, redis.Nil) {
		require.EqualValues(t, -1, own, key)
		return -1
	}
	require.NoError(t, err)
	require.Greater(t, own, int64(end), key)
	require.Greater(t, own, time.Now().UnixMilli(), key)
	return int64(end)
}

// ends is endOf for this node.
func (n *node) ends(key string) int64 { return endOf(n.T, n.other, key) }

// everyByte is a string with every byte.
func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// array is commands in the form of RESP.
func array(words ...string) string {
	b := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		b += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// values are increments of the kind people have: every type, odd values, expiries.
var values = []string{
	array("SET", "bytes:"+everyByte(), everyByte()),
	`SET empty ""`, "SET 😀 '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀'", "SET number 12345678901234", "APPEND appended x\nSETRANGE appended 5 y",
	"SETBIT bits 100003 1",
	"RPUSH list a b c\nLPUSH list ''\nLMOVE list longer LEFT RIGHT",
	"RPUSH longer " + strings.Repeat("element ", 600), "SADD ints 1 2 3 -9223372036854775808", "SADD set a '' 'b c' " +
		strings.Repeat("m", 200),
	"HSET hash f v '' empty\nHINCRBYFLOAT hash float 10.5e3", "HSET wide k " + strings.Repeat("v", 5000),
	"ZADD z -inf low +inf high 0 zero -0.0 minus 1e-300 tiny 1.7976931348623157e308 huge 0.1 tenth 3.0000000000000004 " +
		"near\nZADD z 1 '' ",
	"GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
	"PFADD visitors a b c d e f\nPFADD visitors2 x\nPFMERGE all visitors visitors2",
	"XADD stream 1-1 f v g ''\nXADD stream * f w\nXGROUP CREATE stream group 0\nXGROUP CREATECONSUMER stream group " +
		"alice\nXDEL stream 1-1", "XGROUP CREATE emptystream g $ MKSTREAM",
	"SET far x EX 1000000000\nSETEX far2 1000000000 y\nPSETEX far3 1000000000000 z\nHSET far4 a b\nEXPIRE far4 " +
		"1000000000\nGETEX far2 PX 1000000000001",
	"SET kept x PXAT 9999999999999\nSET kept y KEEPTTL",
	"MSET m1 1 m2 2\nRENAME m1 m3\nCOPY m2 m4\nDEL m2\nUNLINK nothing", "BITFIELD field SET u8 0 255 INCRBY u8 0 10",
	"SORT ints STORE sorted\nZUNIONSTORE union 2 z places WEIGHTS 1 0\nZRANGESTORE ranged z 0 2\nSINTERSTORE common " +
		"ints set ints\nGEOSEARCHSTORE near places FROMLONLAT 15 37 BYRADIUS 200 km ASC",
	"SET big " + strings.Repeat("0123456789", 300_000),
}

// What increments write is what a client reads, also through a snapshot.
func TestTypedValuesSurviveApplyAndDump(t *testing.T) {
	n := newNode(t)
	n.run(values...)
	require.Equal(t, everyByte(), n.do("GET", "bytes:"+everyByte()))
	require.Equal(t, "", n.do("GET", "empty"))
	require.Equal(t, []any{"-inf", "0", "0.10000000000000001", "3.0000000000000004", "1.7976931348623157e+308", "inf"},
		n.do("ZMSCORE", "z", "low", "zero", "tenth", "near", "huge", "high"))
	require.EqualValues(t, 7, n.do("PFCOUNT", "all"))
	require.Nil(t, n.do("GET", "nothing"))
	snapshot, at := n.taken()
	m := newNode(t)
	m.load(snapshot, at)
	require.Equal(t, n.contents(), m.contents())
	require.Greater(t, len(n.contents()), 30)
	require.Equal(t, n.other.HGetAll(t.Context(), positionKey).Val()["seq"],
		m.other.HGetAll(t.Context(), positionKey).Val()["seq"])
	require.EqualValues(t, 7, m.do("PFCOUNT", "all"))
	for _, x := range []*node{n, m} { // both go on with the same increments
		items := n.log.Next([]byte("XADD stream * f again\nLPUSH list z"), []byte("PFADD visitors q\nZINCRBY z 1 zero"))
		n.log = drivertest.NewLog(7)
		_, err := x.Apply(t.Context(), at, rechain(at, items))
		require.NoError(t, err)
	}
	require.Equal(t, n.contents(), m.contents())
}

// rechain makes the same items after any position.
func rechain(pos event.Position, items []event.Item) (again []event.Item) {
	for _, item := range items {
		record, chain := event.EncodeRecord(nil, pos.Seq+1, 17e17, pos.Chain, event.Draft{Body: item.Record.Body()})
		pos = event.Position{Log: pos.Log, Seq: pos.Seq + 1, Chain: chain}
		again = append(again, event.Item{Pos: pos, Record: record})
	}
	return again
}

// An increment whose last command fails leaves every key as it was, whatever its earlier commands did: changed,
// deleted, renamed, made, turned into another type, given another expiry. What precedes the increment stays, nothing
// after it runs.
func TestAFailingIncrementIsTakenBack(t *testing.T) {
	n := newNode(t)
	n.run(values...)
	n.run("SET wrong x", "SET mortal x PXAT 9999999999999")
	for _, half := range []string{
		"SET number 1", "DEL list", "UNLINK hash z set", "RENAME z zz", "RENAME stream list", "SET hash x",
		"DEL set\nHSET set a b", "EXPIRE list 100000", "PERSIST mortal",
		"SET mortal y", "XADD stream * a b\nXGROUP DESTROY stream group", "LPOP list 2\nLPUSH fresh 1",
		"MSET fresh 1 number 2 fresh2 3", "SORT ints STORE list",
		"ZUNIONSTORE hash 2 z places", "PFADD visitors new", "GETDEL big", "LMOVE list longer RIGHT LEFT", "SETBIT bits 0 1",
		"COPY hash set REPLACE", "PEXPIREAT mortal 1",
		"SADD fresh " + strings.Repeat("x ", 1), "XTRIM stream MAXLEN 0\nXSETID stream 9-9 ENTRIESADDED 7 MAXDELETEDID 1-1",
	} {
		n.run("DEL behind before")
		want := n.contents()
		for script, says := range map[string]string{"LPUSH wrong 1": "WRONGTYPE", "INCR wrong": "not an integer",
			"RENAME nothing x": "no such key"} {
			require.ErrorContains(t, n.fails(1, "SET before 1", half+"\n"+script, "SET behind 1"), says, "%.60s", half)
			got := n.contents()
			delete(got, "before")
			require.Equal(t, want, got, "%.60s", half)
		}
	}
}

// When what an increment has done before it failed cannot be taken back, the copy is lost.
func TestWhatCannotBeTakenBackIsFatal(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET a 1", "SET wrong x")
	n.do("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "+@all", "-restore")
	target, err := Open(t.Context(), fmt.Sprintf("redis://limited:pw@%s/%d", own.Addr(), n.db), Options{})
	require.NoError(t, err)
	_, err = target.Apply(t.Context(), n.at(), n.items("SET a 2\nINCR wrong"))
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "could not be taken back")
	require.NoError(t, target.Close())
}

// A failing command changes nothing by itself: for an increment of one command no copies are made.
func TestAFailingCommandChangesNothing(t *testing.T) {
	n := newNode(t)
	n.run(values...)
	n.run("SET wrong x")
	want := n.contents()
	for _, script := range []string{
		"LMOVE list wrong LEFT LEFT", "RPOPLPUSH list wrong", "SMOVE set wrong a", "SUNIONSTORE new set wrong",
		"SINTERSTORE ints set wrong", "ZUNIONSTORE new 2 z wrong", "ZINTERSTORE z 2 z hash",
		"PFMERGE visitors wrong visitors2", "PFMERGE new visitors wrong", "BITOP AND bits wrong list", "RENAME nothing set",
		"RENAMENX nothing set", "MSET a 1 b", "MSETNX a 1 b", "HSET hash a 1 b", "HINCRBY hash f 1",
		"ZADD z 1 a x b", "ZADD z NX XX 1 a", "ZINCRBY z -inf high", "GEOADD places 1 1 ok 500 500 bad",
		"LINSERT list MIDDLE a b", "LSET list 99 x", "XADD stream 0-1 a b", "XADD new 0-0 a b",
		"XGROUP CREATE stream group 0", "XGROUP CREATE new g bad MKSTREAM", "XSETID stream 0-1", "SORT hash STORE new",
		"SORT set STORE set", "ZRANGESTORE new wrong 0 -1", "GEOSEARCHSTORE new wrong FROMLONLAT 1 1 BYBOX 1 1 km",
		"SETRANGE list 0 x", "APPEND list x", "SETBIT bits -1 1", "BITFIELD field SET u99 0 1", "RESTORE new 0 bad",
		"COPY set set", "GETDEL list", "GETEX list PERSIST", "SET list x GET", "INCRBYFLOAT number nan",
		"LPUSH wrong " + strings.Repeat("x ", 100), "EXPIREAT list x", "ZRANGEBYSCORE z 0 1",
	} {
		n.fails(0, script)
		require.Equal(t, want, n.contents(), script)
	}
}

// A batch of any size is a few calls; one of as many words as a command may have works, one more is refused before it
// runs.
func TestLargeBatchesAndCommands(t *testing.T) {
	n := newNode(t)
	var scripts []string
	for range 30_000 {
		scripts = append(scripts, "INCR a\nINCR b")
	}
	n.run(scripts...)
	require.Equal(t, []any{"30000", "30000"}, n.do("MGET", "a", "b"))
	n.run("RPUSH list" + strings.Repeat(" x", maxWords-2))
	n.run("SET small 1\nRPUSH list" + strings.Repeat(" x", maxWords-2) + "\nSET small 2")
	require.EqualValues(t, 2*(maxWords-2), n.do("LLEN", "list"))
	require.ErrorContains(t, n.fails(1, "SET a 1", "RPUSH list"+strings.Repeat(" x", maxWords-1)), "more than the 7000")
	big := strings.Repeat("x", 9<<20)
	n.run("SET big1 "+big, "SET big2 "+big, "SET big3 "+big)
	require.EqualValues(t, 9<<20, n.do("STRLEN", "big3"))
	before := n.at()
	items := n.items("SET big1 "+big, "SET big2 "+big, "INCR big1", "SET big3 1")
	applied, err := n.Apply(t.Context(), before, items)
	require.ErrorContains(t, err, "not an integer")
	require.Equal(t, items[1].Pos, applied)
}

// FLUSHDB deletes the position too, which the same script puts back; a failing increment after it as well.
func TestFLUSHDBKeepsThePosition(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1", "SET b 1\nFLUSHDB", "SET c 1")
	require.Equal(t, []string{"c"}, slices.Collect(maps.Keys(n.contents())))
	n.fails(1, "FLUSHDB ASYNC", "SET d 1\nINCR d\nLPUSH d 1", "SET e 1")
	require.Empty(t, n.contents())
	n.run("SET a 1")
	n.fails(0, "FLUSHDB NOW")
	require.Len(t, n.contents(), 1)
	require.ErrorContains(t, n.fails(0, "FLUSHDB\nSET a 1"), "make it the last")
}

// TestXN08: "Error classes", one case per class on a real server; what only a broken server says is asked of the table.
func TestXN08ErrorClasses(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET s x", "LPUSH l a", "XADD st 5-5 a b", "XGROUP CREATE st g 0")
	for script, text := range map[string]string{
		"LPUSH s 1":            "WRONGTYPE",
		"INCR s":               "not an integer",
		"XGROUP CREATE st g 0": "BUSYGROUP",
		"XADD st 1-1 a b":      "equal or smaller",
		"NOSUCH a":             "knows no command",
		"SET s":                "wrong number of arguments",
		"SET s x BAD":          "syntax error",
		"LSET l 9 x":           "index out of range",
		"RENAME no other":      "no such key",
		"RESTORE r 0 junk":     "DUMP payload",
		"ZADD l 1 a":           "WRONGTYPE",
		"INCRBYFLOAT l 1":      "WRONGTYPE",
		"XGROUP NOSUCH st":     "knows no command",
		"SETEX s 0 x":          "time to live",
		"ZUNIONSTORE a 99 b":   "Invalid arguments",
	} {
		require.ErrorContains(t, n.fails(1, "SET ok 1", script, "SET behind 1"), text, script)
	}
	require.EqualValues(t, 0, n.do("EXISTS", "behind"))

	// Transient, as the real server says it: it is tried again and then passes.
	passes := func(what string, set, unset []any, script string) {
		t.Helper()
		before, items := n.at(), n.items("SET first 1", script)
		n.do(set...)
		applied, err := n.Apply(t.Context(), before, items)
		require.True(t, nodeclient.IsTransient(err), "%s: %v", what, err)
		require.ErrorContains(t, err, what)
		require.Equal(t, before, applied)
		n.do(unset...)
		require.Equal(t, before, n.at(), what)
		_, err = n.Apply(t.Context(), before, items)
		require.NoError(t, err, what)
	}
	passes("OOM", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}, "SET a 1")
	passes("READONLY", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}, "SET a 1")
	passes("NOREPLICAS", []any{"CONFIG", "SET", "min-replicas-to-write", "1"},
		[]any{"CONFIG", "SET", "min-replicas-to-write", "0"}, "SET a 1")
	for _, text := range []string{"OOM x", "READONLY x", "LOADING x", "BUSY x", "MASTERDOWN x", "MISCONF x",
		"CLUSTERDOWN x", "TRYAGAIN x", "NOAUTH x", "ERR max number of clients reached"} {
		require.True(t, transient(text), text)
	}
	for _, text := range []string{"WRONGTYPE x", "ERR x", "BUSYGROUP x", "EXECABORT x", "NOPERM x", "", "UNKNOWN"} {
		require.False(t, transient(text), text)
	}

	// A user without the right to a command or key: the increment's FAIL; without the right to the scripts: nothing is
	// said about it.
	n.do("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", "-append")
	n.Database.hold.Close()
	target, err := Open(t.Context(), fmt.Sprintf("redis://limited:pw@%s/%d", own.Addr(), n.db), Options{})
	require.NoError(t, err)
	before, items := n.at(), n.items("SET ok 2", "APPEND s x")
	applied, err := target.Apply(t.Context(), before, items)
	require.ErrorContains(t, err, "can't run this command")
	require.False(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[0].Pos, applied)
	n.do("ACL", "SETUSER", "limited", "-eval", "-evalsha")
	applied, err = target.Apply(t.Context(), applied, items[1:])
	require.True(t, nodeclient.IsTransient(err), err)
	require.Equal(t, items[0].Pos, applied)

	n.do("ACL", "SETUSER", "limited", "+@all")
	require.NoError(t, target.Close())
	n.Database.hold = hold.New("redis", "own", 0, n.take)

	// FATAL: the position is gone bad.
	for _, spoil := range [][]any{{"HDEL", positionKey, "chain"}, {"HSET", positionKey, "chain", "x"},
		{"SET", positionKey, "x"}} {
		n.do(spoil...)
		_, err := n.Position(t.Context())
		require.True(t, nodeclient.IsFatal(err), err)
		_, err = n.Apply(t.Context(), before, n.items("SET a 1"))
		require.True(t, nodeclient.IsFatal(err), err)
	}
	require.NoError(t, n.Seek(t.Context(), before), "an operator mends it")
	n.log = drivertest.NewLog(7)
	require.Equal(t, before, n.at())
}

// A server without memory still does what needs none, so that a deletion can make room.
func TestAServerWithoutMemoryDoesWhatNeedsNone(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET a 1", "SET b 1", "SET c 1")
	n.do("CONFIG", "SET", "maxmemory", "1")
	before := n.at()
	items := n.items("DEL a", "EXPIRE b 1000000000\nDEL b", "SET d 1", "DEL c")
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "OOM")
	require.Equal(t, items[1].Pos, applied)
	require.Equal(t, applied, n.at())
	require.Equal(t, "2024-01-01T00:00:05Z", n.do("HGET", positionKey, "updated_at"))
	n.do("CONFIG", "SET", "maxmemory", "0")
	_, err = n.Apply(t.Context(), applied, items[2:])
	require.NoError(t, err)
	require.Equal(t, []string{"d"}, slices.Collect(maps.Keys(n.contents())))
}

// However increments fall into batches, the same ones fail and the same keys come out.
func TestTheResultDoesNotDependOnBatches(t *testing.T) {
	scripts := func(rng *rand.Rand) (all []string) {
		for k := range 60 {
			key := string(rune('a' + rng.IntN(5)))
			all = append(all, []string{"INCR " + key, "APPEND " + key + " 7", "DEL " + key, "SET " + key + " x", "LPUSH " +
				key + fmt.Sprintf(" %d", k),
				"SET half 1\nINCR " + key, "SETNX " + key + " 4", "RENAME " + key + " b", "FLUSHDB"}[rng.IntN(9)])
		}
		return all
	}
	all := "local all = redis.call('KEYS', '*'); table.sort(all); local out = {}; for _, k in ipairs(all) do if " +
		"string.sub(k, 1, 4) ~= 'xmq_' then " +
		"local is = redis.call('TYPE', k).ok; out[#out + 1] = k .. '=' .. (is == 'list' and " +
		"table.concat(redis.call('LRANGE', k, 0, -1), ',') or redis.call('GET', k)) end end; return table.concat(out, ' ')"
	dump := func(t *testing.T, target nodeclient.Database) string {
		text, err := client(t, server, target.(*Database).place.db).Eval(t.Context(), all, nil).Text()
		require.NoError(t, err)
		return text
	}
	open := func(t *testing.T) nodeclient.Database {
		n := newNode(t)
		require.NoError(t, n.other.FlushDB(t.Context()).Err())
		return n.Database
	}
	drivertest.Grouping(t, 3, open, scripts, dump)
}
