package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"xmq/broker/server"
	"xmq/broker/version"
	"xmq/configs"
	"xmq/nodeclient"
	"xmq/nodeclient/driver"
)

// call runs the program as if typed and returns what it said.
func call(t *testing.T, in string, words ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"xmq"}, words...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

// good runs what has to succeed in silence and returns its answer.
func good(t *testing.T, in string, words ...string) string {
	t.Helper()
	code, out, errs := call(t, in, words...)
	require.Zero(t, code, "%q: %s", words, errs)
	require.Empty(t, errs)
	return out
}

// cluster runs a broker and a node "master" on a file target, and returns the broker's URLs.
func cluster(t *testing.T) (api, nats string) { return clusterThatAccepts(t, nil) }

func clusterThatAccepts(t *testing.T, accepts func([]byte) error) (api, nats string) {
	cfg := server.Default()
	cfg.Data, cfg.NATSAddr, cfg.HTTPAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Watch.Ballast, cfg.Watch.MinFree, cfg.Watch.SlowSync = false, 0, 0
	quiet := slog.New(slog.DiscardHandler)
	b, err := server.Open(cfg, quiet)
	require.NoError(t, err)
	b.Accept(accepts)
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 2)
	go func() { ended <- b.Run(ctx, func() { close(ready) }) }()
	<-ready
	node := configs.DefaultNode()
	node.ID, node.Broker, node.Target = "master", b.NATSURL(), "file:"+filepath.Join(t.TempDir(), "master.log")
	nodeCtx, stopNode := context.WithCancel(context.Background())
	follows := make(chan struct{})
	go func() {
		ended <- runNode(nodeCtx, node, quiet, func() (func(), error) { close(follows); return func() {}, nil })
	}()
	t.Cleanup(func() {
		stopNode()
		require.NoError(t, <-ended)
		stop()
		require.NoError(t, <-ended)
	})
	select {
	case <-follows: // from now on the broker knows it
	case err := <-ended:
		ended <- err
		require.NoError(t, err, "broker or node ended before the node followed")
	}
	return "http://" + b.HTTPAddr(), b.NATSURL()
}

// eventually asks until the answer is content.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 2*time.Minute, 10*time.Millisecond)
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	commands := []*cli.Command{clientCommand(), alertsCommand(), logCommand(), publishCommand(), benchCommand()}
	for typed, want := range map[string]string{
		"client skip node1 --reason x":         "client skip --reason x -- node1",
		"client skip --reason x node1":         "client skip --reason x -- node1",
		"client --api u skip node1 --reason=x": "client skip --api u --reason=x -- node1",
		"--json client list":                   "client list --json",
		"client list --json":                   "client list --json",
		"client seek node1 5 --reason x":       "client seek --reason x -- node1 5",
		"client replace n --body --json":       "client replace --body --json -- n",
		"client show list":                     "client show -- list",
		"client show -- --odd":                 "client show -- --odd",
		"alerts --api u ack fail/n1":           "alerts ack --api u -- fail/n1",
		"alerts --all":                         "alerts --all",
		"log tail -n 3 -f":                     "log tail -n 3 -f",
		"log show 5 --json":                    "log show --json -- 5",
		"publish --sql - --json":               "publish --sql - --json",
		"publish a --topic t b":                "publish --topic t -- a b",
		"publish --unknown a":                  "publish --unknown -- a",
		"publish --topic":                      "publish --topic",
		"bench ingest --tiny --peer redis":     "bench --tiny --peer redis -- ingest",
		"nosuch --flag client":                 "nosuch --flag client",
		"client skip node1 --reason x --help":  "client skip --help",
		"log show 5 -h":                        "log show --help",
		"publish a --sql -h":                   "publish --sql -h -- a",
		"client frob --help":                   "client --help -- frob",
		"":                                     "",
	} {
		if typed == "nosuch --flag client" {
			want = "--flag -- nosuch client"
		}
		got := flagsFirst(commands, append([]string{"xmq"}, strings.Fields(typed)...))
		require.Equal(t, append([]string{"xmq"}, strings.Fields(want)...), got, typed)
	}
}

// What help says of a command as a whole fits the line.
func TestDescriptionsFitTheLine(t *testing.T) {
	for _, args := range [][]string{{"broker"}, {"node"}, {"publish"}, {"bench"}, {"demo"}, {"dump"}} {
		var out bytes.Buffer
		require.Zero(t, run(t.Context(), append(append([]string{"xmq"}, args...), "--help"), nil, &out, io.Discard))
		about, _, found := strings.Cut(out.String(), "OPTIONS:")
		require.True(t, found, args)
		for line := range strings.Lines(about) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 120, line)
		}
	}
}

// Every wrong call ends with its code and exactly one sentence on stderr, and nothing on stdout.
func TestWrongCallsAreAnsweredWithOneSentence(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	strange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>hello")
	}))
	defer strange.Close()
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.WriteFile(taken, []byte("no database, and long enough to be read as one"), 0o600))
	key := filepath.Join(dir, "c.yaml")
	require.NoError(t, os.WriteFile(key, []byte("workres: 3\n"), 0o600))
	for typed, want := range map[string]struct {
		code int
		says string
	}{
		"frob":                      {exitUsage, `there is no command "frob"`},
		"client frob":               {exitUsage, `"xmq client frob"`},
		"pubish":                    {exitUsage, `no command "pubish", did you mean "publish"?`},
		"position":                  {exitUsage, `did you mean "positions"?`},
		"stauts":                    {exitUsage, `did you mean "status"?`},
		"client shwo x":             {exitUsage, `did you mean "show"?`},
		"publish -f x":              {exitUsage, `publish has no flag -f, did you mean --sql?`},
		"publish --file x":          {exitUsage, `did you mean --sql?`},
		"publish --sq x":            {exitUsage, `publish has no flag --sq, did you mean --sql?`},
		"publish --broker x":        {exitUsage, `did you mean --api?`},
		"node --topic x":            {exitUsage, `did you mean --topics?`},
		"publish --retry 5":         {exitUsage, `--retry 5 has no unit: write 5s`},
		"log frob --json":           {exitUsage, "no flag --json"},
		"alerts frob":               {exitUsage, `"xmq alerts frob"`},
		"help frob":                 {exitUsage, `"frob"`},
		"positions now":             {exitUsage, `takes no arguments, but got "now"`},
		"version now":               {exitUsage, "takes no arguments"},
		"bench":                     {exitUsage, "a scenario or all"},
		"bench frob":                {exitUsage, `no scenario "frob": use ingest`},
		"bench ingest all":          {exitUsage, "a scenario or all"},
		"bench ingest --peer kafka": {exitUsage, `no peer "kafka": it has jetstream-sync`},
		"bench all --peer kafka":    {exitUsage, "no scenario has the peer kafka"},
		"bench ingest --rounds 0":   {exitUsage, "at least 1"},
		"bench ingest --cpuprofile /nonexistent/f": {exitIO, "/nonexistent"},
		"broker now":                     {exitUsage, "takes no arguments"},
		"node now":                       {exitUsage, "takes no arguments"},
		"demo now":                       {exitUsage, "takes no arguments"},
		"positions --jsn":                {exitUsage, "no flag --jsn"},
		"positions --api":                {exitUsage, "--api needs a value"},
		"positions --api 127.0.0.1:8420": {exitUsage, "is no URL"},
		"log tail -n ten":                {exitUsage, `"ten"`},
		"log show":                       {exitUsage, "a sequence"},
		"log show zero":                  {exitUsage, `"zero" is not a sequence`},
		"log show 0":                     {exitUsage, "numbers from 1"},
		"client show":                    {exitUsage, "the client's ID"},
		"client skip a b":                {exitUsage, "--seq N"},
		"client seek a":                  {exitUsage, "ID SEQ"},
		"client seek a 5x":               {exitUsage, `"5x"`},
		"client replace a --reason x":    {exitUsage, "either --body or --file"},
		"client replace a --reason x --file /nonexistent": {exitIO, "/nonexistent"},
		"dump":                                 {exitUsage, "--from NODE --output FILE"},
		"dump --from a -o f --broker http://h": {exitUsage, "no URL of a NATS server"},
		"dump --from a -o f --broker nats://DEAD":                    {exitTemporary, "is it running?"},
		"snapshots cancel zzz":                                       {exitUsage, "zzz"},
		"demo --increments 3":                                        {exitUsage, "at least 1000"},
		"demo --dir " + dir:                                          {exitUsage, "exists already"},
		"publish --check --lines --sql -":                            {exitUsage, "either --sql or --lines"},
		"publish --check --lines":                                    {exitUsage, "--check needs --dialect"},
		"publish --sql a b":                                          {exitUsage, "not both"},
		"publish --sql - --dialect x":                                {exitUsage, "--dialect"},
		"publish /nonexistent":                                       {exitIO, "/nonexistent"},
		"publish --sql /nonexistent":                                 {exitIO, "/nonexistent"},
		"publish --retry 0s --api http://DEAD":                       {exitTemporary, "(connection refused)"},
		"positions --api http://DEAD":                                {exitTemporary, "(connection refused)"},
		"positions --watch --api http://DEAD":                        {exitTemporary, "(connection refused)"},
		"client skip n --reason x --api http://DEAD":                 {exitTemporary, "(connection refused)"},
		"positions --api http://STRANGE":                             {exitRefused, "no broker of this version"},
		"log check --data " + dir:                                    {exitIO, "holds no log"},
		"node":                                                       {exitConfig, "--id"},
		"node --id X --target file:a":                                {exitConfig, `"X"`},
		"node --id x --target oracle:a":                              {exitConfig, `"oracle"`},
		"node --id x --target sqlite:" + dir:                         {exitConfig, "is a directory"},
		"node --id x --target sqlite:/nonexistent/db":                {exitConfig, "no such file"},
		"node --id x --target sqlite:" + taken:                       {exitConfig, "not a database"},
		"node --id x --target file:" + taken:                         {exitConfig, "damaged"},
		"node --id y --target sqlite:" + taken:                       {exitConfig, "move it away and start the node again"},
		"node --id y --target file:" + taken:                         {exitConfig, "move it away and start the node again"},
		"node --id x --target file:a --broker h:1":                   {exitConfig, "no URL of a NATS server"},
		"node --id x --target file:" + dir + "/n --restore " + taken: {exitConfig, "backup"},
		"broker --config /nonexistent":                               {exitConfig, "/nonexistent"},
		"broker --config " + key:                                     {exitConfig, `did you mean "workers"?`},
		"broker --workers many":                                      {exitConfig, `"many"`},
		"broker --create=maybe":                                      {exitUsage, `does not take the value "maybe"`},
		"broker --pprof :6060":                                       {exitConfig, "pprof"},
		"broker --nats-addr 0.0.0.0:4222 --data " + dir + "/b": {exitConfig, "nats_addr 0.0.0.0:4222 is reached " +
			"from other machines: listen on 127.0.0.1, or --insecure-i-know"},
		"broker --http-addr 8420":                         {exitConfig, `http_addr is "8420": it must be HOST:PORT`},
		"broker --workers 0":                              {exitConfig, "workers"},
		"broker --log-level loud":                         {exitConfig, "log_level"},
		"broker --nats-url http://x --data " + dir + "/b": {exitConfig, "no URL of a NATS server"},
	} {
		t.Run(typed, func(t *testing.T) {
			words := strings.NewReplacer("DEAD", dead.Listener.Addr().String(), "STRANGE",
				strange.Listener.Addr().String()).Replace(typed)
			code, out, errs := call(t, "x\n", strings.Fields(words)...)
			require.Equal(t, want.code, code, errs)
			require.Contains(t, errs, want.says)
			require.Empty(t, out)
			if strings.HasPrefix(typed, "node --id x --target file:"+dir+"/n") {
				return // logs as well
			}
			require.Equal(t, 1, strings.Count(errs, "\n"), errs)
			require.True(t, strings.HasPrefix(errs, "xmq: ") && !strings.HasPrefix(errs, "xmq: xmq"), errs)
			require.NotContains(t, errs, "dial tcp")
		})
	}
}

// keys are the names in a JSON object.
func keys(t *testing.T, object string) map[string]any {
	t.Helper()
	m := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(object), &m), object)
	return m
}

func has(t *testing.T, m map[string]any, names ...string) {
	t.Helper()
	for _, n := range names {
		require.Contains(t, m, n)
	}
}

func TestACheckOfAnEmptyLogSaysSo(t *testing.T) {
	api, _ := cluster(t)
	require.Equal(t, "0 records checked: the log holds none\n", good(t, "", "log", "check", "--api", api))
	good(t, "one", "publish", "--api", api)
	require.Contains(t, good(t, "", "log", "check", "--api", api), "1 record checked, 1 to 1\n")
}

// The commands and shapes scripts rely on, against a living broker with a node.
func TestJSONShapesAreStable(t *testing.T) {
	api, nats := cluster(t)
	require.Equal(t, `{"first":1,"last":2,"count":2}`+"\n", good(t, "one\ntwo", "publish", "--api", api, "--json"))
	var p struct{ Clients []map[string]any }
	eventually(t, func() bool {
		p.Clients = nil
		out := good(t, "", "positions", "--json", "--api", api)
		has(t, keys(t, out), "log", "group", "head", "first", "clients")
		require.NoError(t, json.Unmarshal([]byte(out), &p))
		return len(p.Clients) == 1 && p.Clients[0]["acked"] == 2.0
	})
	has(t, p.Clients[0], "id", "role", "state", "base", "sent", "acked", "lag", "lag_seconds", "rate", "connected",
		"last_error", "target")
	require.Equal(t, "master", p.Clients[0]["id"])
	require.Equal(t, "following", p.Clients[0]["state"])
	require.Nil(t, p.Clients[0]["last_error"])
	require.Equal(t, keys(t, good(t, "", "client", "list", "--api", api, "--json"))["head"], 2.0)
	has(t, keys(t, good(t, "", "client", "show", "master", "--json", "--api", api)), "id", "state", "acked")
	has(t, keys(t, good(t, "", "log", "head", "--json", "--api", api)), "log", "first", "head", "chain", "segments",
		"bytes", "pin")
	has(t, keys(t, good(t, "", "log", "check", "--json", "--api", api)), "first", "last", "records", "damaged")
	has(t, keys(t, good(t, "", "log", "trim", "--json", "--api", api)), "freed_segments", "first")
	require.Equal(t, "two", good(t, "", "log", "show", "2", "--api", api))
	has(t, keys(t, good(t, "", "log", "show", "2", "--json", "--api", api)), "seq", "time", "chain", "body")
	code, out, errs := call(t, "", "log", "show", "9", "--json", "--api", api)
	require.Equal(t, exitRefused, code)
	require.Empty(t, out)
	require.Contains(t, errs, "no increment 9 yet")
	require.Equal(t, "[]\n", good(t, "", "alerts", "--json", "--api", api))
	require.Equal(t, "[]\n", good(t, "", "audit", "--json", "--api", api))
	require.Equal(t, "[]\n", good(t, "", "snapshots", "--json", "--api", api))
	backup := filepath.Join(t.TempDir(), "b.xmq")
	has(t, keys(t, good(t, "", "dump", "--from", "master", "-o", backup, "--broker", nats, "--json")), "target", "size")
	var dumps []map[string]any
	require.NoError(t, json.Unmarshal([]byte(good(t, "", "snapshots", "--json", "--api", api)), &dumps))
	require.Len(t, dumps, 1)
	has(t, dumps[0], "id", "target", "requesters", "seq", "state", "pause_ms", "bytes", "duration_ms")
	v := keys(t, good(t, "", "version", "--json", "--api", api))
	has(t, v, "version", "go", "formats", "broker")
	require.Equal(t, version.Version, v["broker"].(map[string]any)["version"])
	require.Regexp(t, `(?m)^broker `+regexp.QuoteMeta(version.Version)+` on \S+, pid \d+, at http://`,
		good(t, "", "version", "--api", api))
	closed := httptest.NewServer(nil)
	closed.Close()
	require.Contains(t, good(t, "", "version", "--api", closed.URL), "broker unknown: the broker at "+closed.URL)
	code, _, errs = call(t, "", "dump", "--from", "master", "-o", backup, "--broker", nats)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "exists already")
}

func TestLogTailShowsEveryIncrement(t *testing.T) {
	api, _ := cluster(t)
	good(t, "a\nb\nc\nd\n", "publish", "--api", api, "--topic", "t1")
	out := good(t, "", "log", "tail", "-n", "3", "--api", api)
	require.Equal(t, 3, strings.Count(out, "\n"))
	require.Contains(t, out, `t1  1 B  "d"`)
	out = good(t, "", "log", "tail", "--from", "2", "--json", "--api", api)
	require.Equal(t, 3, strings.Count(out, "\n"))
	has(t, keys(t, strings.SplitAfter(out, "\n")[0]), "seq", "time", "chain", "topic", "key", "body")
}

func TestPublishTakesEveryInput(t *testing.T) {
	api, _ := cluster(t)
	publish := func(in string, words ...string) (int, string, string) {
		return call(t, in, append([]string{"publish", "--api", api}, words...)...)
	}
	sql := "-- a comment; with a semicolon\nINSERT INTO t VALUES ('a;b''c');\nBEGIN; UPDATE t SET n = 1; DELETE FROM " +
		"t; COMMIT;\n" +
		"CREATE TRIGGER g AFTER UPDATE ON t BEGIN UPDATE u SET n = 2; SELECT 1; END;\n/* ; */ SELECT \"x;\""
	dir := t.TempDir()
	binary := filepath.Join(dir, "help")
	require.NoError(t, os.WriteFile(binary, []byte{0, 0xff, '\n', 0x80}, 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, make([]byte, 1<<20+1), 0o600))
	huge := filepath.Join(dir, "huge")
	require.NoError(t, os.WriteFile(huge, make([]byte, 9<<20), 0o600))
	zeros := filepath.Join(dir, "zeros")
	require.NoError(t, os.WriteFile(zeros, make([]byte, 1<<20), 0o600))
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	lined, named, broken := write("lines", "a (\nb\r\n"), write("s.SQL", "BEGIN;\nSELECT 1;\nSELECT 2;\nCOMMIT;\n"),
		write("b.sql", "SELECT 1;\nSELECT 'x")
	var head uint64
	for _, c := range []struct {
		name, in string
		words    []string
		code     int
		stored   uint64
		says     string
	}{
		{"lines", "a\nb\n", nil, 0, 2, "2 increments published, 1 to 2"},
		{"no line feed at the end", "a\nb", nil, 0, 2, "3 to 4"},
		{"one line", "a", nil, 0, 1, "1 increment published, 5"},
		{"nothing", "", nil, 0, 0, "the input is empty"},
		{"an empty line", "a\n\nb\n", nil, exitRefused, 0, "line 2 of stdin is empty: an increment needs a body"},
		{"a blank line", "a\r\n \r\nb\n", nil, exitRefused, 0, "line 2 of stdin is empty: an increment needs a body"},
		{"a binary file named like a command", "", []string{binary}, 0, 1, "published"},
		{"an empty file", "", []string{empty}, exitRefused, 0, "is empty"},
		{"a large file behind a good one", "", []string{binary, large}, exitRefused, 0, large +
			": this increment has 1048577 bytes, and the broker takes at most 1048576"},
		{"a huge file", "", []string{huge}, exitRefused, 0,
			"this increment has 9437184 bytes, and the broker takes at most 1048576"},
		{"a file at the limit that JSON would blow up", "", []string{zeros}, 0, 1, "published"},
		{"a wrong topic", "a\n", []string{"--topic", "a b"}, exitRefused, 0, "increment 1 of this input was refused"},
		{"a script", sql, []string{"--sql", "-", "--dialect", "sqlite"}, 0, 4, "4 increments published"},
		{"a script that is only checked", sql, []string{"--sql", "-", "--check", "--dialect", "sqlite"}, 0, 0,
			"4 increments: nodes take all of them"},
		{"a script of comments", "-- nothing\n/* here */", []string{"--sql", "-", "--dialect", "sqlite"}, 0, 0,
			"the input is empty"},
		{"a script that ends in a string", "SELECT 1; SELECT 'x", []string{"--sql", "-", "--dialect", "sqlite"}, exitRefused,
			0, "line 1"},
		{"a script for nobody knows whom", sql, []string{"--sql", "-"}, exitUsage, 0, "say --dialect sqlite, postgres"},
		{"a script as lines", "CREATE TABLE t (\n  a int\n);\n", nil, exitRefused, 0,
			"line 1 of stdin is no whole statement: it has a ( that is not closed; it looks like a script, so publish it with " +
				"--sql, or send its lines as they are with --lines; nothing was sent"},
		{"JSON of several lines", "{\n \"sql\": \"SELECT 1\"\n}\n", nil, exitRefused, 0,
			"line 1 of stdin is no whole statement: it is a piece of a JSON text"},
		{"lines as they are", "CREATE TABLE t (\n  a int\n);\n", []string{"--lines"}, 0, 3, "3 increments published"},
		{"lines in UTF-16", "\xff\xfeS\x00E\x00\n\x00", nil, exitRefused, 0,
			"stdin: it is UTF-16, by its byte order mark: send it as UTF-8; nothing was sent"},
		{"a dump in pg_dump's own format", "PGDMP\x01\x0e\x00\x04\xd2", []string{"--sql", "-", "--dialect", "postgres"},
			exitRefused, 0,
			"stdin is a dump of pg_dump in a format of its own: pg_restore --file=SCRIPT.sql makes a script of it"},
		{"a script that is compressed", "\x1f\x8b\x08\x00", []string{"--sql", "-", "--dialect", "mysql"}, exitRefused,
			0, "gunzip -c FILE"},
		{"lines in UTF-16, as they are", "S\x00E\x00L\x00\n\x00", []string{"--lines"}, exitRefused, 0,
			"every other byte is NUL"},
		{"a script in UTF-16", "\x00S\x00E\x00L\x00;", []string{"--sql", "-", "--dialect", "sqlite"}, exitRefused, 0,
			"stdin: it is UTF-16, since every other byte is NUL"},
		{"a script with a NUL", "SELECT 'a\x00b';", []string{"--sql", "-", "--dialect", "sqlite"}, exitRefused, 0,
			"NUL byte"},
		{"lines of a file", "", []string{"--lines", lined}, 0, 2, "2 increments published"},
		{"a file that is a script by its name", "", []string{named, "--dialect", "pg", "--lint=false"}, 0, 1,
			"1 increment published"},
		{"a bad script behind a good file", "", []string{named, broken, "--dialect", "postgresql"}, exitRefused, 0, broken +
			": nothing was sent"},
		{"1200 lines", strings.Repeat("x\n", 1200), nil, 0, 1200, "1,200 increments published"},
	} {
		code, out, errs := publish(c.in, c.words...)
		require.Equal(t, c.code, code, "%s: %s%s", c.name, out, errs)
		require.Contains(t, out+errs, c.says, c.name)
		require.LessOrEqual(t, strings.Count(errs, "\nxmq: "), 0, errs)
		head += c.stored
		require.EqualValues(t, head, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"], c.name)
	}
	code, out, _ := publish("a\r\nb\n", "--json", "--idempotency-prefix", "twice")
	require.Zero(t, code)
	require.JSONEq(t, fmt.Sprintf(`{"first":%d,"last":%d,"count":2}`, head+1, head+2), out)
	_, out, _ = publish("a\nb\n", "--idempotency-prefix", "twice")
	require.Equal(t, fmt.Sprintf("nothing new: 2 increments were there already, %d to %d\n", head+1, head+2), out)
	_, out, _ = publish("a\nb\nc\n", "--json", "--idempotency-prefix", "twice")
	require.JSONEq(t, fmt.Sprintf(`{"first":%d,"last":%d,"count":3,"known":2}`, head+1, head+3), out)
	_, out, _ = publish("a\nb\nc\nd\n", "--idempotency-prefix", "twice")
	require.Equal(t, fmt.Sprintf("1 increment published, 3 increments were there already, all of them from %d to %d\n",
		head+1, head+4), out)
	require.EqualValues(t, "YQ==", keys(t,
		good(t, "", "log", "tail", "-n", "1", "--from", jsonNumber(head+1), "--json", "--api", api))["body"],
		"a carriage return is no part of a line")
}

func jsonNumber(n uint64) string {
	b, _ := json.Marshal(n) // a number
	return string(b)
}

// A broker that comes back in the middle of an input is waited for, and nothing is stored twice.
func TestPublishWaitsForTheBroker(t *testing.T) {
	api, _ := cluster(t)
	var asked atomic.Int64
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n := asked.Add(1)
		if n%3 == 1 { // gone before the broker has it
			panic(http.ErrAbortHandler)
		}
		req, err := http.NewRequest(r.Method, api+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			return
		}
		req.Header = r.Header
		res, err := http.DefaultClient.Do(req)
		if err != nil || n%3 == 2 { // stored, but the answer is lost
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	defer flaky.Close()
	require.Equal(t, `{"first":1,"last":1100,"count":1100}`+"\n",
		good(t, strings.Repeat("x\n", 1100), "publish", "--api", flaky.URL, "--json"))
	require.EqualValues(t, 1100, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"])
}

// Interrupted tools say so, and not that a broker is missing.
func TestInterruptedToolsSaySo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter,
		r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer slow.Close()
	api, _ := cluster(t)
	var errs bytes.Buffer
	in, hand := io.Pipe() // never closed: the tool waits for a line, like at a terminal
	sending, stop := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() { ended <- run(sending, []string{"xmq", "publish", "--api", api}, in, io.Discard, &errs) }()
	_, err := io.WriteString(hand, strings.Repeat("x\n", batchLines+1))
	require.NoError(t, err)
	stop()
	require.Equal(t, exitTemporary, <-ended)
	require.NoError(t, hand.Close())
	require.Equal(t, "xmq: interrupted\n", errs.String())
	require.EqualValues(t, 0, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"],
		"nothing is sent before all is read")
	sending, stop = context.WithCancel(t.Context())
	var batches atomic.Int64
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" && batches.Add(1) == 2 {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server sees that the client has gone
			stop()
			<-r.Context().Done()
			return
		}
		to, err := url.Parse(api)
		if err == nil {
			httputil.NewSingleHostReverseProxy(to).ServeHTTP(w, r)
		}
	}))
	defer second.Close()
	errs.Reset()
	require.Equal(t, exitTemporary, run(sending, []string{"xmq", "publish", "--api", second.URL},
		strings.NewReader(strings.Repeat("x\n", batchLines+1)), io.Discard, &errs))
	require.Equal(t, "xmq: interrupted (500 increments are stored of this input, the last one as 500)\n", errs.String())
	errs.Reset()
	signalled, kill := context.WithCancelCause(t.Context())
	kill(errors.New("terminated signal received"))
	require.Equal(t, exitTemporary, run(signalled, []string{"xmq", "log", "head", "--api", api}, nil, io.Discard, &errs))
	require.Equal(t, "xmq: interrupted\n", errs.String())
	errs.Reset()
	require.Equal(t, exitTemporary, run(ctx, []string{"xmq", "log", "head", "--api", slow.URL}, nil, io.Discard, &errs))
	require.Equal(t, "xmq: interrupted\n", errs.String())
}

// Every command that goes on until somebody ends it says so with 130, whatever it does when the signal comes: it waits
// for an answer, or between two.
func TestEveryCommandThatGoesOnEndsWith130(t *testing.T) {
	followers := map[string][]string{}
	var look func(words []string, c *cli.Command)
	look = func(words []string, c *cli.Command) {
		words = append(slices.Clone(words), c.Name)
		for _, f := range c.Flags {
			if name := f.Names()[0]; name == "follow" || name == "watch" {
				followers[strings.Join(words, " ")] = append(words, "--"+name)
			}
		}
		for _, sub := range c.Subcommands {
			look(words, sub)
		}
	}
	for _, c := range commands() {
		look(nil, c)
	}
	require.Subset(t, slices.Collect(maps.Keys(followers)), []string{"events", "log tail", "positions"})
	for name, words := range followers {
		for _, waits := range []bool{true, false} {
			ctx, cancel := context.WithCancel(t.Context())
			var asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) == 2 {
					cancel()
					if waits {
						<-r.Context().Done()
						return
					}
				}
				switch r.URL.Path {
				case "/v1/increments":
					_, _ = io.WriteString(w, "{\"next\":1}\n")
				case "/v1/events":
					_, _ = io.WriteString(w, "[]")
				default:
					_, _ = io.WriteString(w, `{"log":"00000000000000aa","group":"main","head":1,"first":1,"clients":[]}`)
				}
			}))
			for _, more := range [][]string{nil, {"--json"}} {
				var errs bytes.Buffer
				args := append(append([]string{"xmq"}, words...), "--api", s.URL)
				require.Equal(t, exitInterrupt, run(ctx, append(args, more...), nil, io.Discard, &errs), name)
				require.Empty(t, errs.String(), name)
			}
			s.Close()
			cancel()
		}
	}
}

func TestWatchOutlivesTheBroker(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 2, 3: // the client tries a reused connection twice
			panic(http.ErrAbortHandler)
		case 4:
			cancel()
		}
		_, _ = io.WriteString(w, `{"log":"00000000000000aa","group":"main","head":1,"first":1,"clients":[]}`)
	}))
	defer s.Close()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"xmq", "positions", "--watch", "--api", s.URL}, nil, &out, &errs)
	require.Equal(t, exitInterrupt, code, errs.String())
	require.Contains(t, errs.String(), "does not answer")
	require.NotContains(t, out.String(), "\x1b", "no terminal, no escapes")
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("no"), exitRefused},
		{usage("x"), exitUsage},
		{&ioError{io.ErrUnexpectedEOF}, exitIO},
		{&temporaryError{errors.New("later")}, exitTemporary},
		{&damageError{errors.New("broken")}, exitConfig},
		{configs.ErrConfig, exitConfig},
		{ended(fmt.Errorf("x: %w", nodeclient.ErrNeedsDump)), exitConfig},
		{ended(fmt.Errorf("x: %w", nodeclient.ErrTopics)), exitConfig},
		{ended(fmt.Errorf("x: %w", nodeclient.Fatal(errors.New("lost")))), exitConfig},
		{ended(nodeclient.ErrRefused), exitRefused},
		{ended(nodeclient.ErrFenced), exitRefused},
		{server.ErrDamaged, exitConfig},
		{&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}, exitIO},
	} {
		require.Equal(t, c.want, exitCode(c.err), c.err)
	}
}

// What an operator does by hand is answered, and stands in the audit list with the reason.
func TestOrdersOfOperators(t *testing.T) {
	api, _ := cluster(t)
	good(t, "x\ny\n", "publish", "--api", api)
	eventually(t, func() bool {
		code, _, _ := call(t, "", "client", "seek", "master", "1", "--reason", "again", "--confirm", "--api", api)
		return code == 0
	})
	code, _, errs := call(t, "", "client", "skip", "master", "--reason", "x", "--api", api)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "master")
	for _, words := range [][]string{{"retry", "--all", "master"}, {"retry"}, {"skip", "--all", "--reason", "x"},
		{"seek", "master", "1"}, {"forget", "master"},
		{"retry", "master", "--limit", "soon"}} {
		code, out, errs := call(t, "", append(append([]string{"client"}, words...), "--api", api)...)
		require.Equal(t, exitUsage, code, words)
		require.Empty(t, out)
		require.NotEmpty(t, errs)
	}
	require.Equal(t, "no client has failed or is retrying\n", good(t, "", "client", "retry", "--all", "--api", api))
	require.Equal(t, "{\"retried\":[]}\n", good(t, "", "client", "retry", "--all", "--json", "--api", api))
	code, _, errs = call(t, "", "alerts", "ack", "nosuch", "--api", api)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, `"nosuch"`)
	var audit []map[string]any
	require.NoError(t, json.Unmarshal([]byte(good(t, "", "audit", "--json", "--api", api)), &audit))
	require.NotEmpty(t, audit)
	has(t, audit[0], "number", "time", "verb", "client", "seq", "reason", "by", "via")
	require.Equal(t, "127.0.0.1 (http)", audit[0]["by"], "what the broker knows")
	require.Equal(t, operator(), audit[0]["via"], "what the tool says")
	require.Equal(t, "again", audit[0]["reason"])
}

// What answers instead of a broker is named as what it is.
func TestWhatIsNoBrokerIsNamed(t *testing.T) {
	api, natsURL := cluster(t)
	nats := strings.Replace(natsURL, "nats://", "http://", 1)
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>the gateway waits</html>", http.StatusBadGateway)
	}))
	defer away.Close()
	for url, says := range map[string]string{
		nats: "is a NATS server: --api is the broker's HTTP address",
		strings.Replace(api, "http://", "https://", 1): "speaks plain HTTP: write http://",
		secure.URL: "is not trusted",
		other.URL:  "what answers at " + other.URL + " is no broker of this version (404 Not Found): look at --api",
		away.URL:   "is no broker of this version (502 Bad Gateway)",
	} {
		code, _, errs := call(t, "", "positions", "--api", url)
		require.NotZero(t, code)
		require.Contains(t, errs, says)
		require.Less(t, len(errs), 300)
	}
	code, out, _ := call(t, "", "--version")
	require.Zero(t, code)
	require.Contains(t, out, "xmq "+version.Version)
	require.Contains(t, out, "format event ")
}

// A name that is not known is told from one that cannot be looked up now.
func TestANameThatIsNotFoundIsNamed(t *testing.T) {
	a := &apiClient{base: "http://dc9:8420", name: "http://dc9:8420"}
	err := a.unreached(fmt.Errorf("dial: %w", &net.DNSError{Err: "no such host", Name: "dc9", IsNotFound: true}))
	require.ErrorContains(t, err, "the name in http://dc9:8420 is not known")
	require.Equal(t, exitTemporary, exitCode(err))
	err = a.unreached(fmt.Errorf("dial: %w", &net.DNSError{Err: "server misbehaving", Name: "dc9", IsTemporary: true}))
	require.ErrorContains(t, err, "the name in http://dc9:8420 cannot be looked up now")
	require.Equal(t, exitTemporary, exitCode(err))
}

// Who waits for an answer is told for whom.
func TestAToolThatWaitsSaysForWhom(t *testing.T) {
	told := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-told
		_, _ = io.WriteString(w, `{}`)
	}))
	defer slow.Close()
	r, w := io.Pipe()
	a := &apiClient{base: slow.URL, name: slow.URL, http: &http.Client{Timeout: time.Minute}, w: w}
	ended := make(chan error, 1)
	go func() { ended <- a.do(t.Context(), "GET", "/v1/log", nil, nil) }()
	text := make([]byte, 200)
	n, err := r.Read(text)
	require.NoError(t, err)
	require.Equal(t, "xmq: waiting for the broker at "+slow.URL+"\n", string(text[:n]))
	close(told)
	require.NoError(t, <-ended)
}

// A broker that hangs does not hold a tool for ever.
func TestToolsDoNotWaitForEver(t *testing.T) {
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hanging.Close()
	a := &apiClient{base: hanging.URL, name: hanging.URL, http: &http.Client{Timeout: 50 * time.Millisecond}}
	err := a.do(t.Context(), "GET", "/v1/log", nil, nil)
	require.ErrorContains(t, err, "has not answered within 50ms")
	require.Equal(t, exitTemporary, exitCode(err))
}

// What nodes would answer differently is said once, with its line, and published all the same.
func TestPublishWarnsOfClocksAndDice(t *testing.T) {
	api, _ := cluster(t)
	script := "INSERT INTO t VALUES (1);\nINSERT INTO t\nVALUES (random());\nINSERT INTO t VALUES (RANDOM());"
	code, out, errs := call(t, script, "publish", "--api", api, "--sql", "-", "--dialect", "sqlite", "--json")
	require.Zero(t, code)
	require.JSONEq(t, `{"first":1,"last":3,"count":3}`, out)
	require.Equal(t, "xmq: warning: stdin, line 3: random(): every node draws another random value: write the value "+
		"itself (said once; --lint=false for silence)\n", errs)
	good(t, script, "publish", "--api", api, "--sql", "-", "--dialect", "sqlite", "--lint=false")
	good(t, "SELECT random()", "publish", "--api", api)
}

// A script of which nodes would refuse something is not sent, not even what stands before it, and every line is named.
func TestPublishSendsNothingOfAScriptThatNodesRefuse(t *testing.T) {
	api, _ := cluster(t)
	for dialect, c := range map[string]struct{ script, says string }{
		"sqlite": {"INSERT INTO t VALUES (1);\nVACUUM;\nBEGIN;\nSELECT 1;\n\nPRAGMA journal_mode = OFF;\nCOMMIT;\nSELECT 2;",
			"line 2: VACUUM cannot|line 6: PRAGMA journal_mode"},
		"postgresql": {"INSERT INTO t VALUES (1);\nSET timezone = 'CET';\nCREATE INDEX CONCURRENTLY i ON t (a);\nSELECT " +
			"$1;\nSELECT 'open",
			"line 2: SET TIMEZONE|line 3: CREATE ... CONCURRENTLY|line 4: it has the placeholder $1|line 5: a quote"},
		"mariadb": {"DELIMITER //\nCREATE PROCEDURE p AS BEGIN SELECT 1; END//\nDELIMITER ;\nUSE x;\nINSERT INTO t " +
			"SELECT\n* FROM xmq_position;",
			"line 4: USE changes the database for the increments after it; a node writes to the database of its target URL; " +
				"--leave-out databases passes over it|line 5: it mentions xmq_position"},
		"mysql": {"INSERT INTO t VALUES ('" + strings.Repeat("x", 1<<20) + "');", "line 1: this increment has 1048602 bytes"},
	} {
		code, out, errs := call(t, c.script, "publish", "--api", api, "--sql", "-", "--dialect", dialect)
		require.Equal(t, exitRefused, code, dialect)
		require.Empty(t, out)
		for says := range strings.SplitSeq(c.says, "|") {
			require.Contains(t, errs, "\n  "+says, dialect)
		}
		require.Contains(t, errs, "stdin: nothing was sent", dialect)
		require.Equal(t, dialect == "postgresql", strings.Contains(errs, "; what follows was not looked at"), errs)
	}
	require.EqualValues(t, 0, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"])
}

// A broker that accepts one dialect says 422, in the words of its driver, at every door and for a replaced body.
func TestTheDoorsRefuseWhatNoNodeOfTheirDialectTakes(t *testing.T) {
	accepts, err := driver.Check("postgres")
	require.NoError(t, err)
	api, _ := clusterThatAccepts(t, accepts)
	post := func(path, contentType, body string) (int, string) {
		res, err := http.Post(api+path, contentType, strings.NewReader(body))
		require.NoError(t, err)
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(answer)
	}
	for body, why := range map[string]string{
		"SET x = 1": "SET X changes the connection", `{"sqll": "SELECT 1"}`: `the field \"sqll\" is not known`,
		"VACUUM":                               "cannot run in a transaction",
		`{"sql": "SELECT $1", "args": [1, 2]}`: "it has 2 arguments",
		`{"tx": [{"sql": "SELECT 1"}, {"sql": "VACUUM"}]}`: "statement 2: line 1: VACUUM",
	} {
		status, answer := post("/v1/increments", "application/octet-stream", body)
		require.Equal(t, http.StatusUnprocessableEntity, status, answer)
		require.Contains(t, answer, why)
		require.Contains(t, answer, `"code":"refused"`)
		line, err := json.Marshal(map[string]string{"body": body})
		require.NoError(t, err)
		status, answer = post("/v1/increments/batch", "application/x-ndjson", `{"body":"SELECT 1"}`+"\n"+string(line))
		require.Equal(t, http.StatusUnprocessableEntity, status, answer)
		require.Contains(t, answer, "line 2: ")
		require.Contains(t, answer, "nothing of this batch was stored")
	}
	status, answer := post("/v1/clients/master/replace", "application/json",
		`{"seq":1,"reason":"x","by":"x","via":"x","body":"VkFDVVVN"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status, answer)
	status, _ = post("/v1/increments", "application/octet-stream", `{"sql": "SELECT $1", "args": [1]}`)
	require.Equal(t, http.StatusOK, status)
	require.EqualValues(t, 1, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"])

	_, err = driver.Check("oracle")
	require.ErrorContains(t, err, "a dialect is sqlite, postgres, mariadb or mysql")
}

// Lines and files of a named dialect are checked before anything is sent, and what stands in a {"tx"} is seen by
// check and lint.
func TestPublishChecksIncrementsOfADialect(t *testing.T) {
	api, _ := cluster(t)
	words := []string{"publish", "--api", api, "--dialect", "postgres"}
	in := `{"tx": [{"sql": "INSERT INTO t VALUES ($1)", "args": [1]}, {"sql": "UPDATE t SET\n a = now()"}]}` + "\n" +
		`{"sql": "DELETE FROM t WHERE a = $1", "args": ["x"]}` + "\n"
	wrong := in + `{"tx": [{"sql": "DELETE FROM t"}, {"sql": "INSERT INTO t VALUES ($1, $2)", "args": [1]}]}` + "\n" +
		"VACUUM\n" + `{"sqll": 1}` + "\n"
	code, _, errs := call(t, wrong, words...)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "warning: line 1 of stdin, line 2 of statement 2: now(): every node asks its own clock")
	require.Contains(t, errs, "nothing was sent, nodes would refuse this:\n  line 3 of stdin: statement 2: line 1: its "+
		"placeholders go up to $2, and it has 1 argument\n"+
		"  line 4 of stdin: line 1: VACUUM cannot run in a transaction")
	require.Contains(t, errs, "line 5 of stdin: the field \"sqll\" is not known")
	file := filepath.Join(t.TempDir(), "a.txt")
	require.NoError(t, os.WriteFile(file, []byte("DELETE FROM t WHERE a = $1"), 0o600))
	code, _, errs = call(t, "", append(words, "--check", file)...)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, file+": line 1: it has the placeholder $1 and no arguments")
	require.Equal(t, "2 increments: nodes take all of them, as far as can be seen without a database\n",
		good(t, in, append(words, "--check", "--lint=false")...))
	require.EqualValues(t, 0, keys(t, good(t, "", "log", "head", "--json", "--api", api))["head"], "nothing was sent")
	require.Contains(t, good(t, in, append(words, "--lint=false")...), "2 increments published, 1 to 2")
	code, _, errs = call(t, "x", "publish", "--api", api, "--dialect", "oracle")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--dialect is sqlite, postgres, mariadb or mysql")
}

// What a dump says to its client is left out and counted; what no node has is refused, unless it is left out as well.
func TestPublishCountsWhatItLeavesOut(t *testing.T) {
	api, _ := cluster(t)
	script := "/*!40101 SET NAMES utf8mb4 */;\nDROP DATABASE IF EXISTS shop;\nCREATE DATABASE shop;\nUSE shop;\nSET " +
		"FOREIGN_KEY_CHECKS=0;\n" +
		"LOCK TABLES a WRITE;\nINSERT INTO a VALUES (1," + strings.Repeat("'x'),(2,", 150_000) + "'y');\nUNLOCK TABLES;\n" +
		"CREATE DEFINER=`root`@`localhost` PROCEDURE p() SELECT 1;\n"
	words := []string{"publish", "--api", api, "--sql", "-", "--dialect", "mariadb"}
	code, _, errs := call(t, script, words...)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, "line 2: DROP DATABASE")
	require.Contains(t, errs, "--leave-out databases passes over it")
	out := good(t, script, append(words, "--leave-out", "databases")...)
	require.Contains(t, out, "3 increments published")
	require.Contains(t, out, "1 owner or definer was left out")
	require.Contains(t, out, "4 statements about a session were left out")
	require.Contains(t, out, "3 statements about databases were left out")
	require.Contains(t, out, "1 statement was cut between rows")
	require.JSONEq(t, `{"count":3,"settings_left_out":4,"databases_left_out":3,"cut_between_rows":1,"owners_left_out":1}`,
		good(t, script, append(words, "--leave-out", "databases", "--check", "--json")...))
	code, _, errs = call(t, script, append(words, "--leave-out", "tables")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--leave-out knows databases")
}

// A broker that is older than the tool is told from a wrong call.
func TestAnOlderBrokerIsNamed(t *testing.T) {
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"the request is not the JSON it should be: json: unknown field \"via\""}`)
	}))
	defer older.Close()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"xmq", "client", "retry", "n1", "--api", older.URL}, nil, &out, &errs)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs.String(), "the broker is older than this tool")
}

// An answer that came whole and is not understood is one of another version; only one that did not come whole was cut.
func TestAnAnswerOfAnotherVersionIsNotCalledCut(t *testing.T) {
	const before = `[{"key":"disk","first":1796050652997220564}]` // times were numbers
	var short bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if short {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = io.WriteString(w, before[:len(before)-1])
		if !short {
			_, _ = io.WriteString(w, "]")
		}
	}))
	defer other.Close()
	var out, errs bytes.Buffer
	require.Equal(t, exitRefused, run(t.Context(), []string{"xmq", "alerts", "--api", other.URL}, nil, &out, &errs))
	require.Contains(t, errs.String(), "is no broker of this version")
	errs.Reset()
	short = true
	require.Equal(t, exitIO, run(t.Context(), []string{"xmq", "alerts", "--api", other.URL}, nil, &out, &errs))
	require.Contains(t, errs.String(), "was cut (unexpected EOF): ask again")
	errs.Reset()
	require.Equal(t, exitIO, run(t.Context(), []string{"xmq", "log", "trim", "--api", other.URL}, nil, &out, &errs))
	require.Contains(t, errs.String(), "whether it did what it was told is not known")
}

// A broker that is busy refuses nobody: what it says is said, and a script may call again.
func TestABrokerThatIsBusyMayBeAskedAgain(t *testing.T) {
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":"too much is under way","code":"busy"}`)
	}))
	defer busy.Close()
	var out, errs bytes.Buffer
	require.Equal(t, exitTemporary, run(t.Context(), []string{"xmq", "alerts", "--api", busy.URL}, nil, &out, &errs))
	require.Equal(t, "xmq: too much is under way\n", errs.String())
}
