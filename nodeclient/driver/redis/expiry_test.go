package redis

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/servertest/redistest"
)

// second is the broker time of the increment with this sequence (drivertest.Log).
func second(seq uint64) time.Time {
	return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seq) * time.Second)
}

// until is a heartbeat with the broker time of the increment with this sequence.
func (n *node) until(seq uint64) {
	n.Helper()
	for more := true; more; {
		var err error
		more, err = n.Expire(n.Context(), n.at(), second(seq).UnixNano())
		require.NoError(n, err)
	}
}

// timedItems makes one item of a log for each script; times are in ms since 2024.
func timedItems(from event.Position, times []int64, scripts []string) (items []event.Item) {
	for i, script := range scripts {
		record, chain := event.EncodeRecord(nil, from.Seq+1, second(0).UnixNano()+times[i]*1e6, from.Chain,
			event.Draft{Body: []byte(script)})
		from = event.Position{Log: from.Log, Seq: from.Seq + 1, Chain: chain}
		items = append(items, event.Item{Pos: from, Record: record})
	}
	return items
}

// book is what keys hold by the words of the commands alone: the model.
type book map[string]page

type page struct {
	value string
	end   int64 // in ms since 1970; -1: none
}

// due drops what has ended at a time.
func (b book) due(ms int64) {
	maps.DeleteFunc(b, func(_ string, p page) bool { return p.end >= 0 && p.end <= ms })
}

// run does one increment at a time; false when it fails, and nothing is done then.
func (b book) run(script string, ms int64) bool {
	b.due(ms)
	was := maps.Clone(b)
	for l := range strings.SplitSeq(script, "\n") {
		if !b.do(strings.Fields(l), ms) {
			clear(b)
			maps.Copy(b, was)
			return false
		}
		b.due(ms)
	}
	return true
}

func (b book) do(w []string, ms int64) bool {
	number := func(i int) int64 { n, _ := strconv.ParseInt(w[i], 10, 64); return n }
	if w[0] == "FLUSHDB" {
		clear(b)
		return true
	}
	p, there := b[w[1]]
	put := func(value string, end int64) { b[w[1]] = page{value, end} }
	has := func(option string) bool { return slices.Contains(w[2:], option) }
	span := func(from int) (end int64, given bool) { // the time among the options
		for i := from; i+1 < len(w); i++ {
			switch w[i] {
			case "EX":
				return ms + 1000*number(i+1), true
			case "PX":
				return ms + number(i+1), true
			case "EXAT":
				return 1000 * number(i+1), true
			case "PXAT":
				return number(i + 1), true
			}
		}
		return -1, false
	}
	if !there {
		p = page{"", -1}
	}
	switch w[0] {
	case "SET":
		if has("NX") && there || has("XX") && !there {
			return true
		}
		end, _ := span(3)
		if has("KEEPTTL") {
			end = p.end
		}
		put(w[2], end)
	case "SETEX":
		put(w[3], ms+1000*number(2))
	case "PSETEX":
		put(w[3], ms+number(2))
	case "SETNX":
		if !there {
			put(w[2], -1)
		}
	case "GETSET":
		put(w[2], -1)
	case "GETDEL", "DEL", "UNLINK":
		delete(b, w[1])
	case "GETEX":
		if end, given := span(2); there && given {
			put(p.value, end)
		} else if there && has("PERSIST") {
			put(p.value, -1)
		}
	case "PERSIST":
		if there {
			put(p.value, -1)
		}
	case "APPEND", "SETRANGE":
		if w[0] == "SETRANGE" {
			p.value = w[3] + p.value[min(len(p.value), len(w[3])):]
		} else {
			p.value += w[2]
		}
		put(p.value, p.end)
	case "INCR":
		n, err := strconv.Atoi("0" + p.value)
		if err != nil {
			return false
		}
		put(strconv.Itoa(n+1), p.end)
	case "MSET":
		b[w[1]], b[w[3]] = page{w[2], -1}, page{w[4], -1}
	case "BITOP":
		q, src := b[w[3]]
		if delete(b, w[2]); src {
			b[w[2]] = page{q.value, -1}
		}
	case "RENAME", "RENAMENX":
		_, taken := b[w[2]]
		if !there {
			return false
		}
		if w[0] == "RENAMENX" && taken {
			return true
		}
		delete(b, w[1])
		b[w[2]] = p
	case "COPY":
		if _, taken := b[w[2]]; there && w[1] != w[2] && (!taken || has("REPLACE")) {
			b[w[2]] = p
		} else if w[1] == w[2] {
			return false
		}
	case "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT":
		end := map[string]int64{"EXPIRE": ms + 1000*number(2), "PEXPIRE": ms + number(2), "EXPIREAT": 1000 * number(2),
			"PEXPIREAT": number(2)}[w[0]]
		old := p.end
		switch {
		case !there, has("NX") && old >= 0, has("XX") && old < 0, has("GT") && (old < 0 || end <= old), has("LT") &&
			old >= 0 && end >= old:
			return true
		}
		put(p.value, max(end, 0))
	default:
		panic(w[0])
	}
	return true
}

// contents is as node.contents.
func (b book) contents() map[string]string {
	all := make(map[string]string)
	for key, p := range b {
		all[key] = fmt.Sprintf("%d %q", p.end, fmt.Sprint(p.value))
	}
	return all
}

// mortals are random scripts in which keys get, read, keep, move and lose times, with the ms between them.
func mortals(rng *rand.Rand, count int) (scripts []string, times []int64) {
	start := second(0).UnixMilli()
	now := int64(0)
	key := func() string { return string(rune('a' + rng.IntN(6))) }
	span := func() int64 { return []int64{1, 400, 1000, 3000, 7000, 60_000}[rng.IntN(6)] }
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	command := func() string {
		k := key()
		switch rng.IntN(20) {
		case 0:
			return fmt.Sprintf("SET %s 1 PX %d %s", k, span(), pick("", "NX", "XX", "GET", "NX GET", "XX GET"))
		case 1:
			return fmt.Sprintf("SET %s 2 %s %s", k,
				pick("EX 2", "EX 5", "KEEPTTL", fmt.Sprintf("PXAT %d", start+now+span()-500),
					fmt.Sprintf("EXAT %d", (start+now+span())/1000)), pick("", "NX", "XX"))
		case 2:
			return pick("SETEX "+k+" 3 4", fmt.Sprintf("PSETEX %s %d 5", k, span()), "SETNX "+k+" 6", "GETSET "+k+" 7", "SET "+k+
				" 8")
		case 3, 4:
			return fmt.Sprintf("PEXPIRE %s %d %s", k, span()-300, pick("", "NX", "XX", "GT", "LT", "XX GT", "LT XX"))
		case 5:
			return fmt.Sprintf("EXPIRE %s %d %s", k, rng.IntN(9)-1, pick("", "NX", "XX", "GT", "LT"))
		case 6:
			return fmt.Sprintf("PEXPIREAT %s %d %s", k, start+now+span()-400, pick("", "NX", "XX", "GT", "LT"))
		case 7:
			return fmt.Sprintf("EXPIREAT %s %d %s", k, (start+now+span())/1000, pick("", "NX", "XX", "GT", "LT"))
		case 8:
			return fmt.Sprintf("GETEX %s %s", k,
				pick("", "PERSIST", "EX 3", fmt.Sprintf("PX %d", span()), fmt.Sprintf("PXAT %d", start+now+span())))
		case 9:
			return "PERSIST " + k
		case 10:
			return pick("DEL ", "UNLINK ", "GETDEL ") + k
		case 11, 12:
			return pick("RENAME ", "RENAMENX ") + k + " " + key()
		case 13:
			return "COPY " + k + " " + key() + pick("", " REPLACE")
		case 14:
			return "MSET " + k + " 1 " + key() + " 2"
		case 15:
			return "BITOP AND " + k + " " + key()
		case 16:
			return pick("APPEND "+k+" 9", "SETRANGE "+k+" 0 3")
		default:
			return "INCR " + k
		}
	}
	for range count {
		now += []int64{0, 0, 1, 200, 900, 2500}[rng.IntN(6)]
		script := command()
		for rng.IntN(3) == 0 {
			script += "\n" + command()
		}
		if rng.IntN(40) == 0 {
			script = "FLUSHDB"
		}
		scripts, times = append(scripts, script), append(times, now)
	}
	return scripts, times
}

// step applies items, passing over those that fail as an operator would, and returns which do.
func (n *node) step(before event.Position, items []event.Item) (failed []uint64) {
	n.Helper()
	for len(items) > 0 {
		at, err := n.Apply(n.Context(), before, items)
		require.False(n, nodeclient.IsTransient(err) || nodeclient.IsFatal(err), err)
		for len(items) > 0 && items[0].Pos.Seq <= at.Seq {
			items = items[1:]
		}
		if err == nil {
			require.Empty(n, items)
			return failed
		}
		failed = append(failed, items[0].Pos.Seq)
		before = items[0].Pos
		require.NoError(n, n.Seek(n.Context(), before))
		items = items[1:]
	}
	return failed
}

// Keys end by the time of the log: a node that is level, with a heartbeat after every increment; one that lags and
// gets all in a few batches; one that joins with a DUMP in the middle; and one whose server is killed on the way; all
// hold in the end, and after each increment but for what a heartbeat has ended, what the words of the commands say.
func TestKeysEndByTheTimeOfTheLog(t *testing.T) {
	own := redistest.New(t)
	seed := uint64(time.Now().UnixNano())
	for round := range uint64(2) {
		t.Logf("seed %d", seed+round)
		rng := rand.New(rand.NewPCG(seed+round, 1))
		scripts, times := mortals(rng, 250)
		start := event.Start(7)
		items := timedItems(start, times, scripts)
		const middle = 100
		model, wrong := make(book), []uint64(nil)
		level, lagging, joining := newNode(t), newNode(t), newNode(t)
		at, failed := start, []uint64(nil)
		beat := func(n *node, ms int64) {
			for more := true; more; {
				var err error
				more, err = n.Expire(t.Context(), at, second(0).UnixNano()+ms*1e6)
				require.NoError(t, err)
			}
		}
		for i, script := range scripts {
			ms := second(0).UnixMilli() + times[i]
			if !model.run(script, ms) {
				wrong = append(wrong, items[i].Pos.Seq)
			}
			failed = append(failed, level.step(at, items[i:i+1])...)
			at = items[i].Pos
			require.Equal(t, model.contents(), level.contents(), "%d: %s", i+1, script)
			if rng.IntN(2) == 0 && i+1 < len(scripts) {
				till := times[i] + rng.Int64N(times[i+1]-times[i]+1)
				beat(level, till)
				model.due(second(0).UnixMilli() + till)
				require.Equal(t, model.contents(), level.contents(), "heartbeat after %d", i+1)
			}
			if i == middle {
				snapshot, pos := level.taken()
				joining.load(snapshot, pos)
				require.Equal(t, level.contents(), joining.contents())
			}
		}
		require.Equal(t, wrong, failed)
		require.Equal(t, wrong, lagging.step(start, items))
		joining.step(items[middle].Pos, items[middle+1:])

		require.NoError(t, client(t, own, 0).FlushAll(t.Context()).Err())
		killed := nodeOn(t, own, own.Addr())
		for len(items) > 0 {
			n := min(len(items), 1+rng.IntN(120))
			killed.step(killed.at(), items[:n])
			items = items[n:]
			require.NoError(t, own.Kill())
			require.NoError(t, own.Run())
		}
		last := times[len(times)-1]
		for _, more := range []int64{0, 1000, 100_000} {
			model.due(second(0).UnixMilli() + last + more)
			for name, n := range map[string]*node{"level": level, "lagging": lagging, "joining": joining, "killed": killed} {
				beat(n, last+more)
				require.Equal(t, model.contents(), n.contents(), name)
			}
		}
	}
}

// A node that was away for longer than the times to live ends with what a level one has (drivers/h16, public/07).
func TestANodeThatWasAwayLongerThanTheTimesToLive(t *testing.T) {
	scripts := []string{"SET x 1", "SET rate 100 EX 3\nINCR rate", "APPEND rate 7", "SETEX tok 2 abc\nRENAME tok session",
		"RPUSH q a\nEXPIRE q 2", "RPUSH q b",
		"SET session:1 alice EX 2", "EXPIRE session:1 600", "SET b 5 EX 2", "INCR b", "EXPIRE b 600", "SET a 1 EX 2",
		"PERSIST a", "HSET h f 1\nEXPIRE h 2", "HINCRBY h f 1\nPERSIST h"}
	var times []int64
	for i := range scripts {
		times = append(times, int64(100*i))
	}
	level, away := newNode(t), newNode(t)
	items := timedItems(event.Start(7), times, scripts)
	for _, n := range []*node{level, away} { // both years behind the log by the servers' clock
		require.Empty(t, n.step(event.Start(7), items))
	}
	require.Equal(t, level.contents(), away.contents())
	require.Equal(t, "alice", away.do("GET", "session:1"))
	require.Equal(t, "6", away.do("GET", "b"))
	for _, n := range []*node{level, away} {
		n.until(100)
		require.Equal(t, []string{"a", "b", "h", "session:1", "x"}, slices.Sorted(maps.Keys(n.contents())))
		n.until(1000)
		require.Equal(t, []string{"a", "h", "x"}, slices.Sorted(maps.Keys(n.contents())))
		require.EqualValues(t, 0, n.do("EXISTS", expiryKey))
	}
}

// Heartbeats alone end keys, any number of them, in pieces; one that comes twice, or late, does nothing.
func TestHeartbeatsAloneEndKeys(t *testing.T) {
	n := newNode(t)
	scripts := make([]string, 0, 25)
	for k := range 25 {
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "SET k:%d:%d x EX %d\n", k, i, 100+k%2)
		}
		scripts = append(scripts, b.String())
	}
	n.run(append(scripts, "SET stays x", "SET longer x EX 1000")...)
	require.Len(t, n.contents(), 25_002)
	more, err := n.Expire(t.Context(), n.at(), second(200).UnixNano())
	require.NoError(t, err)
	require.True(t, more)
	require.EqualValues(t, 15_002, n.other.DBSize(t.Context()).Val()-int64(len(heldKeys)))
	n.until(200)
	n.until(200)
	n.until(3)
	require.Equal(t, []string{"longer", "stays"}, slices.Sorted(maps.Keys(n.contents())))
	n.run("SET stays y", "INCR longer2")
	require.Equal(t, "y", n.do("GET", "stays"))

	// As many end before an increment, whatever the batch.
	n.run(scripts...)
	for range 100 {
		n.log.Next([]byte("SET passed 1"))
	}
	require.NoError(t, n.Seek(t.Context(), n.log.At()))
	n.run("INCR longer2", "SET done 1")
	require.Equal(t, []string{"done", "longer", "longer2", "stays"}, slices.Sorted(maps.Keys(n.contents())))

	// After a position that is not the database's nothing ends.
	n.run("SET soon x EX 1")
	before := n.at()
	before.Seq++
	_, err = n.Expire(t.Context(), before, second(99999).UnixNano())
	require.True(t, nodeclient.IsBack(err), err)
	before.Log++
	_, err = n.Expire(t.Context(), before, second(99999).UnixNano())
	require.True(t, nodeclient.IsFatal(err), err)
	require.EqualValues(t, 1, n.do("EXISTS", "soon"))
}

// A database of an earlier revision, whose keys have times of Redis alone, is taken over at its first use; so is a
// snapshot of one.
func TestADatabaseOfAnEarlierRevisionIsTakenOver(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1", "RPUSH list x")
	at := n.at()
	n.do("HDEL", positionKey, "expiry")
	end := time.Now().Add(time.Hour).UnixMilli()
	n.do("SET", "soon", "x", "PXAT", end)
	n.do("PEXPIREAT", "list", end+1000)
	for i := range 3000 {
		n.do("SET", fmt.Sprint("many:", i), "x", "PXAT", end+500)
	}
	n.do("ZADD", expiryKey, end+7, "half") // what was interrupted
	n.do("SET", "half", "x", "PXAT", end+500000)
	require.NoError(t, n.Close())
	for again := range 2 {
		if again > 0 {
			require.NoError(t, n.Close())
		}
		target, err := Open(t.Context(), redistest.URL(server.Addr(), n.db), Options{})
		require.NoError(t, err)
		n.Database = target
		more, err := n.Expire(t.Context(), at, time.Now().UnixNano())
		require.NoError(t, err)
		require.False(t, more)
		require.Len(t, n.contents(), 3004)
		require.Equal(t, []int64{end, end + 1000, end + 500, end + 7, -1},
			[]int64{n.ends("soon"), n.ends("list"), n.ends("many:7"), n.ends("half"), n.ends("a")})
		require.NotEmpty(t, n.do("HGET", positionKey, "expiry"))
		t.Cleanup(func() { _ = target.Close() })
	}
	snapshot, pos := n.taken()
	m := newNode(t)
	m.load(snapshot, pos)
	require.Equal(t, n.contents(), m.contents())
	for _, x := range []*node{n, m} {
		_, err := x.Expire(t.Context(), at, (end+600)*1e6)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "list"}, slices.Sorted(maps.Keys(x.contents())))
	}
}

// Redis itself ends a key long after the log: never while a node comes by, however far behind the log it is. When none
// came for longer, and the log may still need the key, that is told, and an operator can go on from there.
func TestRedisItselfEndsNothingTheLogNeeds(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1 EX 100", "SET b 1 EX 1000", "SET c 1") // all over long ago by the server's clock
	kept := func(keys ...string) {
		t.Helper()
		till := time.Now().Add(spareTime - time.Hour).UnixMilli()
		for _, key := range keys {
			require.Greater(t, n.do("PEXPIRETIME", key), till, key)
		}
		stored, err := n.other.HGet(t.Context(), positionKey, "expiry").Int64()
		require.NoError(t, err)
		require.Greater(t, stored, till)
	}
	soon := func(d time.Duration) { // as if the node had last come by so much less than spareTime ago
		for _, key := range []string{"a", "b"} {
			n.do("PEXPIREAT", key, time.Now().Add(max(d, time.Hour)).UnixMilli())
		}
		n.do("HSET", positionKey, "expiry", time.Now().Add(d).UnixMilli())
	}
	kept("a", "b")
	for _, d := range []time.Duration{time.Hour, -time.Hour} { // also when it is late, and nothing is lost
		soon(d)
		n.until(n.at().Seq)
		kept("a", "b")
		soon(d)
		n.run("INCR c")
		kept("a", "b")
		require.Len(t, n.contents(), 3)
	}

	n.do("DEL", "a", "b") // as Redis does
	soon(-time.Hour)
	before, items := n.at(), n.items("INCR a")
	applied, err := n.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsFatal(err), err)
	require.ErrorContains(t, err, "2 keys (")
	require.ErrorContains(t, err, fmt.Sprintf("seek to %d", before.Seq+1))
	require.Equal(t, before, applied)
	_, err = n.Expire(t.Context(), before, second(before.Seq).UnixNano())
	require.True(t, nodeclient.IsFatal(err), err)
	require.NoError(t, n.Seek(t.Context(), before), "an operator takes it as it is")
	_, err = n.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": `-1 "1"`, "c": `-1 "3"`}, n.contents())

	// What the log ends before it could need the key is not missed.
	n.run("SET a 1 EX 1", "SET b 1 EX 1")
	n.do("DEL", "a", "b")
	soon(-time.Hour)
	n.run("INCR a")
	require.Equal(t, "1", n.do("GET", "a"))
}

// A failing increment gives keys back the times they had.
func TestAFailingIncrementGivesTimesBack(t *testing.T) {
	n := newNode(t)
	n.run("SET wrong x", "SET m 1 EX 1000", "SET n 1", "SET o 2 EX 500", "HSET h f v\nEXPIRE h 700")
	for _, half := range []string{"PERSIST m", "SET m 2", "EXPIRE m 5", "EXPIRE m 0", "EXPIRE m 5000 GT", "EXPIRE n 5",
		"RENAME m n", "RENAME n m", "COPY m n REPLACE", "COPY n m REPLACE", "DEL m", "GETEX m PERSIST",
		"GETEX n EX 9", "SET fresh 1 EX 9", "SET m 1 EX 1 GET", "RENAME m fresh\nSET m 5 EX 77",
		"HDEL h f\nHSET h g 1\nEXPIRE h 5", "SUNIONSTORE o none", "SET fresh 1 EX 9\nRENAME fresh o\nPERSIST o"} {
		want := n.contents()
		n.fails(0, half+"\nINCR wrong")
		require.Equal(t, want, n.contents(), half)
	}
}

// A user without the rights that times to live need is told so before anything is done: a script cannot be taken back.
func TestAUserWithoutTheRightsForTimesIsToldBefore(t *testing.T) {
	own := redistest.New(t)
	n := nodeOn(t, own, own.Addr())
	n.run("SET a 1")
	before, want := n.at(), n.contents()
	items := n.items("SET b 1", "SET c 1 EX 5", "INCR b")
	for _, right := range []string{"zadd", "zrem", "zscore", "zrange", "zrangebyscore", "unlink", "pexpiretime", "exists",
		"time"} {
		n.do("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "+@all", "-"+right)
		target, err := Open(t.Context(), fmt.Sprintf("redis://limited:pw@%s/%d", own.Addr(), n.db), Options{})
		require.NoError(t, err)
		applied, err := target.Apply(t.Context(), before, items)
		require.True(t, nodeclient.IsTransient(err), "%s: %v", right, err)
		require.Equal(t, before, applied)
		require.Equal(t, before, n.at())
		require.Equal(t, want, n.contents(), right)
		require.NoError(t, target.Close())
	}
	_, err := n.Apply(t.Context(), before, items)
	require.NoError(t, err)
}

// Without times to live a batch costs no more than before: keys are not sent, nothing is asked about them.
func TestTimesCostNothingWhereThereAreNone(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1")
	require.False(t, n.timed)
	plain := n.arguments(n.at(), []step{{Work: work{{spec: &spec{}, words: [][]byte{[]byte("INCR"), []byte("a")},
		keys: [][]byte{[]byte("a")}}}}}, false)
	require.NotContains(t, plain, []byte("a"+"\x00"))
	n.run("SET a 1 EX 5")
	require.True(t, n.timed)
	n.do("ZADD", expiryKey, 1, "x")
	n.timed = false // as another one that has just opened, and cannot know
	n.run("SET b 1")
	require.True(t, n.timed)
	n.until(1000)
	require.False(t, n.timed)
	var b bytes.Buffer
	s, err := n.Snapshot(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
}
