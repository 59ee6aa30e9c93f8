package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// What no increment may hold is refused before anything runs, with a sentence.
func TestWhatIsRefused(t *testing.T) {
	n := newNode(t)
	n.run("SET a 1", "XADD st 1-1 a b", "SADD s 1 2 3")
	want := n.contents()
	for script, says := range map[string]string{
		"GET a": "only reads", "KEYS *": "only reads", "SRANDMEMBER s": "only reads", "TOUCH a": "only reads",
		"OBJECT FREQ a": "only reads", "PFCOUNT a": "only reads", "XINFO STREAM st": "only reads", "SORT_RO a": "only reads",
		"SPOP s": "chance", "SPOP s 2": "chance", "XCLAIM st g c 0 1-1": "chance", "XAUTOCLAIM st g c 0 0": "chance",
		"BLPOP a 0": "wait", "BRPOPLPUSH a b 0": "wait", "BLMOVE a b LEFT LEFT 0": "wait",
		"WAIT 0 0": "works on the connection", "XREADGROUP GROUP g c STREAMS st >": "wait",
		"MULTI": "works on the connection", "EXEC": "works on the connection", "WATCH a": "works on the connection",
		"DISCARD":           "works on the connection",
		"EVAL 'return 1' 0": "works on the connection", "EVALSHA x 0": "works on the connection",
		"FCALL f 0": "works on the connection", "FUNCTION LOAD x": "works on the connection",
		"SCRIPT FLUSH": "works on the connection",
		"SELECT 3":     "reaches beyond", "AUTH x": "works on the connection", "HELLO 3": "works on the connection",
		"RESET": "works on the connection", "QUIT": "works on the connection",
		"CONFIG SET dir /": "works on the server", "SHUTDOWN": "works on the server", "DEBUG SLEEP 1": "works on the server",
		"SAVE": "works on the server", "REPLICAOF a 1": "works on the server", "ACL SETUSER x": "works on the server",
		"PUBLISH a b": "works on the server", "SUBSCRIBE a": "works on the server",
		"PFDEBUG ENCODING a": "works on the server", "CLIENT KILL x": "works on the server",
		"FLUSHALL": "reaches beyond", "SWAPDB 0 1": "reaches beyond", "MOVE a 1": "reaches beyond",
		"MIGRATE h 1 a 0 1": "reaches beyond", "RESTORE-ASKING a 0 x": "reaches beyond", "COPY a b DB 3": "reaches beyond",
		"COPY a b REPLACE db 3": "reaches beyond",
		"SET xmq_position 1":    "XMQ's own", "DEL a xmq_position": "XMQ's own", "RENAME a xmq_x": "XMQ's own",
		"SORT s STORE xmq_x": "XMQ's own", "ZUNIONSTORE b 1 xmq_x": "XMQ's own", "XGROUP CREATE xmq_restore g 0": "XMQ's own",
		"HSET xmq_position a b": "XMQ's own",
		"NOSUCH":                "knows no command", "XGROUP": "wrong number", "XGROUP NOSUCH a": "knows no command",
		"CONFIG NOSUCH": "knows no command", "SET a": "wrong number", "INCR a b": "wrong number",
		"SET 'a b":   "line 2: a quote is not closed",
		"EXPIRE a x": "time to live", "EXPIRE a 9223372036854775807": "time to live", "SETEX a -1 x": "time to live",
		"SET a b EX 0": "time to live", "SET a b PX 1.5": "time to live", "GETEX a EX +1": "time to live",
		"PSETEX a 01 x": "time to live",
	} {
		require.ErrorContains(t, n.fails(1, "SET a 1", "SET half 1\n"+script, "SET behind 1"), says, "%q", script)
		require.Equal(t, want, n.contents(), "%q", script)
	}
}

// Times to live count from broker time, so that every node gives the same end, whenever it applies; IDs of streams
// are of broker time and never go back; trimming is exact.
func TestWhatDependsOnAClockIsMadeAbsolute(t *testing.T) {
	n := newNode(t)
	// of the increment just applied
	base := func() int64 { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + 1000*int64(n.at().Seq) }
	const year = 365 * 24 * 3600
	for _, c := range []struct {
		script string
		ms     int64
	}{
		{fmt.Sprintf("SET k x\nEXPIRE k %d", 20*year), 20 * year * 1000},
		{fmt.Sprintf("SET k x\npexpire k %d NX", 20*year*1000), 20 * year * 1000},
		{fmt.Sprintf("SETEX k %d x", 20*year), 20 * year * 1000},
		{fmt.Sprintf("PSETEX k %d x", 20*year*1000), 20 * year * 1000},
		{fmt.Sprintf("SET k x GET ex %d", 20*year), 20 * year * 1000},
		{fmt.Sprintf("SET k ex PX %d XX", 20*year*1000+7), 20*year*1000 + 7}, {"SET EX PX", -1},
		{fmt.Sprintf("SET k x\nGETEX k EX %d", 20*year), 20 * year * 1000},
	} {
		n.run(c.script)
		key := "k"
		if c.ms < 0 {
			require.EqualValues(t, -1, n.ends("EX"))
			continue
		}
		require.Equal(t, base()+c.ms, n.ends(key), c.script)
	}
	n.run("SET k x\nEXPIRE k -1")
	require.EqualValues(t, 0, n.do("EXISTS", "k"))
	n.run("SET k x\nEXPIRE k 1") // long ago by the server's clock
	require.EqualValues(t, 1, n.do("EXISTS", "k"))
	n.until(n.at().Seq + 1)
	require.EqualValues(t, 0, n.do("EXISTS", "k"))
	dump := n.do("DUMP", "EX").(string)
	n.run(array("RESTORE", "r", fmt.Sprint(int64(20*year*1000)), dump, "REPLACE"), array("RESTORE", "r2", "0", dump),
		array("RESTORE", "r3", "9999999999999", dump, "ABSTTL"))
	require.Equal(t, []any{base() - 2000 + 20*year*1000, int64(-1), int64(9999999999999)},
		[]any{n.ends("r"), n.ends("r2"), n.ends("r3")})

	n.run("XADD st * a 1\nXADD st * a 2")
	ms := base()
	n.run(fmt.Sprintf("XADD st %d-5 a 3", ms+1_000_000), "XADD st * a 4",
		"XADD st NOMKSTREAM * a 5\nXADD none NOMKSTREAM * a b", "SET half 1\nXADD st MAXLEN 100 * a 6")
	var ids []string
	for _, m := range n.other.XRange(t.Context(), "st", "-", "+").Val() {
		ids = append(ids, m.ID)
	}
	require.Equal(t, []string{fmt.Sprintf("%d-0", ms), fmt.Sprintf("%d-1", ms), fmt.Sprintf("%d-5", ms+1_000_000),
		fmt.Sprintf("%d-6", ms+1_000_000), fmt.Sprintf("%d-7", ms+1_000_000), fmt.Sprintf("%d-8", ms+1_000_000)}, ids)
	n.run("XADD st MAXLEN ~ 3 LIMIT 1 * a 7")
	require.EqualValues(t, 3, n.do("XLEN", "st"))
	n.run("XTRIM st MAXLEN ~ 2 LIMIT 1", "XTRIM st MINID = 5")
	require.EqualValues(t, 2, n.do("XLEN", "st"))
	require.EqualValues(t, 0, n.do("EXISTS", "none"))
}

// Rewriting leaves the increment's own bytes alone: they belong to the caller.
func TestRewritingCopies(t *testing.T) {
	n := newNode(t)
	items := n.items("SETEX k 100 x\nXADD st MAXLEN ~ 3 LIMIT 1 * a b", array("EXPIRE", "k", "5"))
	var before []string
	for _, item := range items {
		before = append(before, string(item.Record))
	}
	_, err := n.Apply(t.Context(), n.at(), items)
	require.NoError(t, err)
	for i, item := range items {
		require.Equal(t, before[i], string(item.Record))
	}
}

// A password stands in no error, whatever is wrong with the URL.
func TestAWrongURLIsRefusedWithoutItsPassword(t *testing.T) {
	good := server.URL(0)
	for name, c := range map[string]struct{ url, says string }{
		"port":     {strings.Replace(good, server.Addr(), "127.0.0.1:77777", 1), "cannot be read"},
		"escape":   {strings.Replace(good, "%40", "%4", 1), "cannot be read"},
		"scheme":   {strings.Replace(good, "redis:", "http:", 1), "cannot be read"},
		"host":     {strings.Replace(good, server.Addr(), "", 1), "cannot be read"},
		"password": {strings.Replace(good, "%20", "%21", 1), "WRONGPASS"},
		"none":     {strings.Replace(good, ":p%40ss%2Fword%20of%3Axmq@", "", 1), "NOAUTH"},
		"user":     {strings.Replace(good, ":p%40ss%2Fword%20of%3Axmq@", "me@", 1), "no password"},
		"number":   {strings.Replace(good, "/0?", "/x?", 1), "no logical database"},
		"restore":  {strings.Replace(good, "restore_db=1", "restore_db=0", 1), "must not be the target"},
		"query":    {good + "&db=3", "in nothing else"},
		"high":     {strings.Replace(good, "/0?", "/99999?", 1), "out of range"},
	} {
		_, err := Open(t.Context(), c.url, Options{})
		require.ErrorContains(t, err, c.says, name)
		drivertest.RefusesURL(t, name, err)
	}
	_, err := Open(t.Context(), strings.Replace(good, server.Addr(), "127.0.0.1:1", 1), Options{})
	drivertest.NotThereYet(t, err)
	_, err = Open(t.Context(), good, Options{Password: func() (string, error) { return "of before", nil }})
	drivertest.NotThereYet(t, err)
	require.ErrorContains(t, err, "is read again at each try")

	t.Setenv("REDISCLI_AUTH", redistest.Password)
	target, err := Open(t.Context(), strings.Replace(good, ":p%40ss%2Fword%20of%3Axmq@", "default@", 1), Options{})
	require.NoError(t, err)
	require.NoError(t, target.Close())
	_, err = target.Position(t.Context())
	require.ErrorContains(t, err, "closed")
}

// A server that cannot be a target says so when it is opened.
func TestServersThatCannotBeATarget(t *testing.T) {
	good := info{"redis_version": "7.0.15", "redis_mode": "standalone", "role": "master"}
	require.NoError(t, good.check())
	for _, c := range []struct{ key, value, says string }{
		{"redis_version", "6.2.14", "7.0 or later"}, {"redis_version", "", "no Redis"},
		{"redis_mode", "cluster", `runs as "cluster"`}, {"redis_mode", "sentinel", "sentinel"},
		{"role", "slave", "a replica"},
	} {
		i := parseInfo("# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\nrole:master\r\n")
		i[c.key] = c.value
		require.ErrorContains(t, i.check(), c.says)
	}
	own := redistest.New(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	_, err := Open(t.Context(), own.URL(0), Options{})
	require.ErrorContains(t, err, "evicts keys")
	require.False(t, nodeclient.IsTransient(err), err)
	c := client(t, own, 0)
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	_, err = Open(t.Context(), own.URL(0), Options{})
	require.ErrorContains(t, err, "name its master")
	require.False(t, nodeclient.IsTransient(err), err)
}
