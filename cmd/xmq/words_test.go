package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver"
)

// What is said when something ends says nothing twice: each layer names what only it knows.
func TestNoErrorSaysAWordTwice(t *testing.T) {
	dir := t.TempDir()
	taken := map[string]string{"sqlite": filepath.Join(dir, "t.db"), "file": filepath.Join(dir, "t.log"),
		"kv": filepath.Join(dir, "t.kv")}
	for scheme, path := range taken {
		other, err := driver.Open(t.Context(), "first", scheme+":"+path, "", dir)
		require.NoError(t, err)
		t.Cleanup(func() { _ = other.Close() })
	}
	open := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(open, []byte("secret\n"), 0o644))
	node := func(words ...string) []string {
		return append([]string{"node", "--id", "n", "--broker", "nats://127.0.0.1:1"}, words...)
	}
	for _, words := range [][]string{
		node("--target", "sqlite:"+taken["sqlite"]), node("--target", "file:"+taken["file"]),
		node("--target", "kv:"+taken["kv"]),
		node("--target", "sqlite:/no/such/folder/x.db"), node("--target", "sqlite:"+dir),
		node("--target", "sqlite:"+dir+"/x.db?max_pages=no"),
		node("--target", "file:/no/such/folder/x"), node("--target", "kv:/dev/null/x"), node("--target", "nothing"),
		node("--target", "what:x"),
		node("--target", "postgres://u@127.0.0.1:x/d"), node("--target", "mariadb://u:p@/"),
		node("--target", "redis://127.0.0.1:1/d"),
		node("--target", "postgres://u@127.0.0.1/d", "--target-password-file", "missing"),
		node("--target", "postgres://u@127.0.0.1/d", "--target-password-file", open),
		{"node", "--id", "n/n", "--target", "sqlite:" + dir + "/y.db", "--broker", "nats://127.0.0.1:1"},
		{"node", "--data", dir}, {"node", "--config", "missing"}, {"node", "--config", open},
		{"node", "--id", "n", "--target", "sqlite:" + dir + "/y.db", "--broker", "what"},
		{"broker", "--config", "missing"}, {"broker", "--config", open}, {"broker", "--data", "/dev/null/x"},
		{"broker", "--accept", "what"},
		{"publish", "--dialect", "what"}, {"publish", "--check", "--dialect", "sqlite", "missing"},
		{"positions", "--api", "http://127.0.0.1:1"}, {"log", "check", "--data", "missing"}, {"dump", "show", "missing"},
	} {
		t.Run(strings.Join(words[:2], " "), func(t *testing.T) {
			// not side by side: the flags that urfave/cli gives every command are variables of its package
			var out, errs bytes.Buffer
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			code := run(ctx, append([]string{"xmq"}, words...), strings.NewReader("SELECT 1\n"), &out, &errs)
			require.NoError(t, ctx.Err(), "%v does not end", words)
			stop()
			require.NotZero(t, code, words)
			for line := range strings.Lines(errs.String()) {
				parts := strings.Split(line, ": ")
				for i := 1; i < len(parts); i++ {
					require.NotEqual(t, strings.TrimSpace(parts[i-1]), strings.TrimSpace(parts[i]), "%v: %s", words, line)
				}
			}
		})
	}
}
