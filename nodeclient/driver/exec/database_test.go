package exec

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/internal/external"
)

// script is the command of all tests.
func script(t *testing.T) string {
	path, err := filepath.Abs("testdata/copy.sh")
	require.NoError(t, err)
	return "sh " + path
}

// open opens the copy in dir; keep says that it stores its position.
func open(t *testing.T, dir string, keep bool, more string) *external.Database {
	t.Helper()
	command := script(t)
	u := "exec:" + url.PathEscape(command) + "?dump=" + url.QueryEscape(command) + "&load=" +
		url.QueryEscape(command) + more
	if keep {
		u = "exec:" + url.PathEscape("KEEP=1 "+command) + u[strings.IndexByte(u, '?'):] + "&position=" +
			url.QueryEscape(command)
	}
	target, err := Open(t.Context(), u, dir)
	require.NoError(t, err)
	require.Equal(t, !keep, target.Stateless())
	return target
}

func factory(keep bool, more string) drivertest.Factory {
	return drivertest.Factory{
		Open:      func(t *testing.T, dir string) nodeclient.Database { return open(t, dir, keep, more) },
		Stateless: !keep,
		Topicless: true,
		Body:      func(k uint64) []byte { return strconv.AppendUint([]byte("number "), k, 10) },
		Invalid:   []byte("bad"),
		Applied: func(t *testing.T, dir string) (numbers []uint64) {
			for _, line := range lines(t, dir) {
				k, err := strconv.ParseUint(strings.TrimPrefix(line, "number "), 10, 64)
				require.NoError(t, err)
				numbers = append(numbers, k)
			}
			return numbers
		},
		Costly: true,
	}
}

func lines(t *testing.T, dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, "live", "data"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) {
	drivertest.Run(t, factory(false, ""))
}

// With a position of its own a command runs three times as often, each time as a process: make check leaves these out.
func TestAKeptPositionPassesTheConformanceSuite(t *testing.T) {
	t.Run("with a position of its own", func(t *testing.T) { drivertest.Run(t, factory(true, "")) })
	t.Run("with an online dump", func(t *testing.T) { drivertest.Run(t, factory(true, "&online=true")) })
}

// exec has a table of exit codes: one case each. What is not in it is a FAIL (XD-20).
func TestXD20ExitCodes(t *testing.T) {
	for _, c := range []struct {
		body, says       string
		transient, fatal bool
	}{
		{"bad", "this one is refused", false, false},
		{"odd", "exit status 9: odd", false, false},
		{"lost", "the copy is gone", false, true},
		{"syntax", "exit status 2", false, false},
		{"busy", "later", true, false},
		{"die", "exit status 137: Killed", true, false},
		{"code 128", "exit status 128", false, false},
		{"code 129", "exit status 129", true, false}, // a shell tells signals so, of which there are 64
		{"code 192", "exit status 192", true, false},
		{"code 193", "exit status 193", false, false},
		{"code 255", "exit status 255", false, false}, // Perl's die, PHP's fatal error, exit(-1)
	} {
		dir := t.TempDir()
		target := open(t, dir, false, "")
		log := drivertest.NewLog(7)
		require.NoError(t, target.Seek(t.Context(), log.At()))
		before := log.At()
		items := log.Next([]byte("one"), []byte(c.body), []byte("three"))
		applied, err := target.Apply(t.Context(), before, items)
		require.ErrorContains(t, err, "exec: increment 2: ", c.body)
		require.ErrorContains(t, err, c.says)
		require.Equal(t, c.transient, nodeclient.IsTransient(err), err)
		require.Equal(t, c.fatal, nodeclient.IsFatal(err), err)
		require.Equal(t, items[0].Pos, applied)
		require.Equal(t, []string{"one"}, lines(t, dir))
	}
}

// A command that died after its work is not run again where the copy keeps its position; elsewhere it is: at least
// once.
func TestACommandThatDiesBehindItsWork(t *testing.T) {
	for _, keep := range []bool{true, false} {
		dir := t.TempDir()
		target := open(t, dir, keep, "")
		log := drivertest.NewLog(7)
		before := log.At()
		require.NoError(t, target.Seek(t.Context(), before))
		items := log.Next([]byte("done"))
		applied, err := target.Apply(t.Context(), before, items)
		if keep {
			require.NoError(t, err)
			require.Equal(t, items[0].Pos, applied)
		} else {
			require.True(t, nodeclient.IsTransient(err), err)
			require.Equal(t, before, applied)
		}
		require.Equal(t, []string{"done"}, lines(t, dir))
	}
}

// A command that hangs is ended with all it has started, and comes again.
func TestACommandThatHangsIsEnded(t *testing.T) {
	target := open(t, t.TempDir(), false, "&timeout=100ms")
	log := drivertest.NewLog(7)
	before := log.At()
	began := time.Now()
	_, err := target.Apply(t.Context(), before, log.Next([]byte("slow")))
	require.True(t, nodeclient.IsTransient(err), err)
	require.ErrorContains(t, err, "did not answer in 100ms")
	require.Less(t, time.Since(began), 30*time.Second)
}

// An increment that names a time limit has that one, instead of the timeout of all others.
func TestACommandHasTheTimeItsIncrementNames(t *testing.T) {
	start := event.Start(7)
	for _, c := range []struct {
		command string
		limit   time.Duration
		says    string
	}{
		{"sleep 1?timeout=100ms", event.NoLimit, ""}, {"sleep 1?timeout=100ms", time.Minute, ""},
		{"sleep 1000?timeout=1h", time.Second, "did not answer in 1s"}, {"sleep 1000?timeout=100ms", 0,
			"did not answer in 100ms"},
	} {
		target, err := Open(t.Context(), "exec:"+strings.ReplaceAll(c.command, " ", "%20"), t.TempDir())
		require.NoError(t, err)
		require.NoError(t, target.Seek(t.Context(), start))
		record, chain := event.EncodeRecord(nil, 1, 1, start.Chain, event.Draft{Body: []byte("x"),
			Headers: event.Headers{Limit: c.limit}})
		_, err = target.Apply(t.Context(), start, []event.Item{{Pos: event.Position{Log: 7, Seq: 1, Chain: chain},
			Record: record}})
		if c.says == "" {
			require.NoError(t, err, c)
			continue
		}
		require.True(t, nodeclient.IsTransient(err), err)
		require.ErrorContains(t, err, c.says)
	}
}

// What an increment holds never stands in a command line, and its headers come in the environment.
func TestTheEnvironmentOfACommand(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	target, err := Open(t.Context(), "exec:"+url.PathEscape("env > "+out+"; cat >> "+out), dir)
	require.NoError(t, err)
	start := event.Start(7)
	require.NoError(t, target.Seek(t.Context(), start))
	body := "$(touch " + dir + "/no); `touch " + dir + "/no`\x00\xff"
	record, chain := event.EncodeRecord(nil, 1, 1e18, start.Chain, event.Draft{Body: []byte(body),
		Headers: event.Headers{Topic: "orders", ContentType: "text/x; a=b", Origin: "here $(touch no)", Producer: "p1",
			Key: "k"}})
	pos := event.Position{Log: 7, Seq: 1, Chain: chain}
	_, err = target.Apply(t.Context(), start, []event.Item{{Pos: pos, Record: record}})
	require.NoError(t, err)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	for _, want := range []string{"XMQ_OP=apply", "XMQ_SEQ=1", "XMQ_LOG=" + pos.Log.String(), "XMQ_CHAIN=" +
		chain.String(), "XMQ_TIME=2001-09-09T01:46:40Z",
		"XMQ_TOPIC=orders", "XMQ_CONTENT_TYPE=text/x; a=b", "XMQ_ORIGIN=here $(touch no)", "XMQ_PRODUCER=p1", "XMQ_KEY=k"} {
		require.Contains(t, string(b), want+"\n")
	}
	require.True(t, bytes.HasSuffix(b, []byte(body)))
	require.NoFileExists(t, dir+"/no")
	require.NoFileExists(t, "no")
	require.NotContains(t, string(b), "XMQ_OUTSIDE")

	at := event.Position{Log: 7, Seq: 9, Chain: 9} // it is ordered there, though it was skipped
	require.NoError(t, target.Seek(t.Context(), at))
	_, err = target.Apply(t.Context(), at, []event.Item{{Pos: at, Record: record, Decision: 1}})
	require.NoError(t, err)
	b, err = os.ReadFile(out)
	require.NoError(t, err)
	for _, want := range []string{"XMQ_OUTSIDE=1", "XMQ_SEQ=1", "XMQ_CHAIN=" + chain.String()} {
		require.Contains(t, string(b), want+"\n")
	}
}

func TestAWrongURLIsRefused(t *testing.T) {
	for u, says := range map[string]string{
		"exec:":                     "no command",
		"exec:%zz":                  "no command that can be read",
		"exec:a?b=c":                "b in the target URL: it is not known",
		"exec:a?online=perhaps":     "online",
		"exec:a?timeout=soon":       "timeout",
		"exec:a?timeout=-1s":        "timeout",
		"exec:a?dump=%zz":           "cannot be read",
		"exec:true?load=exit%201":   "remove what an unfinished load",
		"exec:true?load=kill%20-9$": "remove what an unfinished load",
	} {
		_, err := Open(t.Context(), u, t.TempDir())
		require.ErrorContains(t, err, says, u)
	}
}

// A position that cannot be read is a lost place, whatever it may mean.
func TestAPositionThatCannotBeRead(t *testing.T) {
	for _, printed := range []string{"1", "a b c", "0000000000000007 x 0000000000000007", "0000000000000007 1 7",
		strings.Repeat("9", 5000)} {
		target, err := Open(t.Context(), "exec:true?position="+url.QueryEscape("echo "+printed), t.TempDir())
		require.NoError(t, err)
		_, err = target.Position(t.Context())
		require.Error(t, err)
		require.Equal(t, len(printed) < 100, nodeclient.IsFatal(err), err)
	}
}

// Without commands for it there is no DUMP, and the node says so.
func TestNoDumpWithoutItsCommands(t *testing.T) {
	target, err := Open(t.Context(), "exec:true", t.TempDir())
	require.NoError(t, err)
	_, err = target.Snapshot(t.Context())
	require.ErrorContains(t, err, "add dump=")
	require.False(t, target.Loads(Format))
	empty, err := target.Empty(t.Context())
	require.NoError(t, err)
	require.False(t, empty, "nothing is overwritten that cannot be looked at")
}

// A dump command that fails makes no snapshot.
func TestADumpThatFailsIsNone(t *testing.T) {
	for _, more := range []string{"", "&online=true"} {
		target, err := Open(t.Context(), "exec:true?dump="+url.QueryEscape("echo part; echo broken >&2; exit 3")+more,
			t.TempDir())
		require.NoError(t, err)
		s, err := target.Snapshot(t.Context())
		require.NoError(t, err)
		var b bytes.Buffer
		require.ErrorContains(t, s.WriteTo(t.Context(), &b), "exit status 3: broken")
		require.NoError(t, s.Close())
	}
	target, err := Open(t.Context(), "exec:true?online=true&dump=exit+3", t.TempDir())
	require.NoError(t, err)
	_, err = target.Snapshot(t.Context())
	require.ErrorContains(t, err, "exit status 3")

	ctx, cancel := context.WithCancel(t.Context())
	target, err = Open(ctx, "exec:true?online=true&dump=sleep+60", t.TempDir())
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = target.Snapshot(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A load command that fails or does not read to the end.
func TestALoadThatFails(t *testing.T) {
	source := open(t, t.TempDir(), false, "")
	log := drivertest.NewLog(7)
	before := log.At()
	require.NoError(t, source.Seek(t.Context(), before))
	_, err := source.Apply(t.Context(), before, log.Next([]byte("a")))
	require.NoError(t, err)
	s, err := source.Snapshot(t.Context())
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
	for command, says := range map[string]string{
		`[ $XMQ_OP != load ] || { echo no >&2; exit 5; }`: "exit status 5: no",
		`[ $XMQ_OP != load ] || kill -9 $$`:               "ended before it answered",
	} {
		target, err := Open(t.Context(), "exec:true?load="+url.QueryEscape(command), t.TempDir())
		require.NoError(t, err)
		_, err = target.Restore(t.Context(), log.At(), event.AllTopics, bytes.NewReader(b.Bytes()))
		require.ErrorContains(t, err, says)
		require.False(t, nodeclient.IsFatal(err))
	}
	lazy, err := Open(t.Context(), "exec:true?load="+url.QueryEscape("[ $XMQ_OP != load ] || exit 0"), t.TempDir())
	require.NoError(t, err)
	_, err = lazy.Restore(t.Context(), log.At(), event.AllTopics, bytes.NewReader(b.Bytes()[:b.Len()-1]))
	require.ErrorContains(t, err, "read the snapshot", "a cut stream is refused although the command was content")
}

func TestTheFormatOfASnapshotStays(t *testing.T) {
	target := open(t, t.TempDir(), false, "")
	require.NoError(t, target.Seek(t.Context(), event.Position{Log: 1, Seq: 2, Chain: 3}))
	s, err := target.Snapshot(t.Context())
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.WriteTo(t.Context(), &b))
	require.NoError(t, s.Close())
	require.Equal(t, "XMQEXECD\x01\x00\x00\x00", string(b.Bytes()[:12]))
	require.Equal(t,
		fmt.Sprintf("%x",
			"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		fmt.Sprintf("%x", b.Bytes()[12:40]))
}
