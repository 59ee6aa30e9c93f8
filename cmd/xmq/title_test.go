package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPasswordLeavesTheCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want, env []string }{
		{[]string{"xmq", "node", "--target", "postgres://u:secret@h/d", "--id", "a"}, []string{"xmq", "node", "--id", "a"},
			[]string{"A=1", "XMQ_TARGET=postgres://u:secret@h/d"}},
		{[]string{"xmq", "node", "--id", "a", "--target=redis://:secret@h/0"}, []string{"xmq", "node", "--id", "a"},
			[]string{"A=1", "XMQ_TARGET=redis://:secret@h/0"}},
		{[]string{"xmq", "node", "--target", "webhook:http://u:secret@h/"}, []string{"xmq", "node"},
			[]string{"A=1", "XMQ_TARGET=webhook:http://u:secret@h/"}},
		{[]string{"xmq", "node", "--target", "webhook:http://h/#dump=http%3A%2F%2Fu%3Asecret%40h"}, []string{"xmq", "node"},
			[]string{"A=1", "XMQ_TARGET=webhook:http://h/#dump=http%3A%2F%2Fu%3Asecret%40h"}},
		{[]string{"xmq", "node", "--target", "webhook:http://h/token"}, []string{"xmq", "node"},
			[]string{"A=1", "XMQ_TARGET=webhook:http://h/token"}},
		{[]string{"xmq", "node", "--target", "kv:http://u:secret@h"}, []string{"xmq", "node"},
			[]string{"A=1", "XMQ_TARGET=kv:http://u:secret@h"}},
		{[]string{"xmq", "broker", "--nats-url", "nats://u:secret@h", "--hooks-url=http://h/token"},
			[]string{"xmq", "broker"},
			[]string{"A=1", "XMQ_TARGET=older", "XMQ_NATS_URL=nats://u:secret@h", "XMQ_HOOKS_URL=http://h/token"}},
		{[]string{"xmq", "dump", "-broker", "nats://token@h", "-o", "f"}, []string{"xmq", "dump", "-o", "f"},
			[]string{"A=1", "XMQ_TARGET=older", "XMQ_BROKER=nats://token@h"}},
		{[]string{"xmq", "positions", "--api", "https://h/token/"}, []string{"xmq", "positions"},
			[]string{"A=1", "XMQ_TARGET=older", "XMQ_API=https://h/token/"}},
		{[]string{"xmq", "positions", "--api", "http://127.0.0.1:8420/"}, nil, nil},
		{[]string{"xmq", "publish", "--", "--api", "http://u:secret@h"}, nil, nil},
		{[]string{"xmq", "node", "--target", "postgres://u@h:5432/d", "--target"}, nil, nil},
		{[]string{"xmq", "node", "--target", "sqlite:a:b@c"}, nil, nil},
		{[]string{"xmq", "node", "--target=exec:echo a@b"}, nil, nil},
	} {
		args, env, ok := hidden(c.args, []string{"A=1", "XMQ_TARGET=older"})
		require.Equal(t, c.want != nil, ok, c.args)
		if ok {
			require.Equal(t, c.want, args)
			require.Equal(t, c.env, env)
		} else {
			require.Equal(t, c.args, args)
		}
	}
}
