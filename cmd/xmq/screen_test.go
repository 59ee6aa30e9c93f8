package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/worker"
)

// evil is what a producer or a database may say: a title, a cleared screen, colours, C1, DEL, text that runs backwards,
// invisible characters of every plane, and lines and columns of its own.
const evil = "\x1b]0;OWNED\a\x1b[2J\x1b[31mall is " +
	"well\u009b0m\x7f\b\r\u202elive\u2066\u200f\u061c\ufeff\u2028\U000e0041\r\nxmq: forged\tline\v\f"

// poison sets every string in what v points to, and makes one of everything that there may be none of.
func poison(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		poison(v.Elem())
	case reflect.String:
		v.SetString(evil)
	case reflect.Uint64, reflect.Uint32, reflect.Uint:
		v.SetUint(1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				poison(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(evil))
			return
		}
		poison(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		poison(key)
		poison(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}

func poisoned[T any]() []byte {
	var v T
	poison(reflect.ValueOf(&v).Elem())
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	// as a broker that escapes nothing would write it, where JSON allows that
	for _, r := range evil {
		if r >= 0x7f {
			b = bytes.ReplaceAll(b, fmt.Appendf(nil, `\u%04x`, r), []byte(string(r)))
		}
	}
	return append(b, '\n')
}

// hostileBroker answers every path with text that wants to be obeyed: as good answers, as refusals, or as no JSON at
// all.
func hostileBroker(t *testing.T, mode string) string {
	answers := map[string][]byte{
		"/v1/positions": poisoned[api.Positions](), "/v1/clients/n1": poisoned[worker.View](),
		"/v1/log":    poisoned[api.LogInfo](),
		"/v1/alerts": poisoned[[]api.AlertView](), "/v1/audit": poisoned[[]api.AuditView](),
		"/v1/events": poisoned[[]api.EventView](), "/v1/status": poisoned[api.Status](),
		"/v1/dumps":      poisoned[[]api.DumpView](),
		"/v1/increments": poisoned[api.Line](), "/v1/log/check": poisoned[api.Checked](),
		"/v1/increments/1": []byte(evil),
		"/v1/log/trim":     []byte(`{"freed_segments": 1, "first": 1}`), "/v1/clients/retry": poisoned[struct {
			Retried []api.Retried `json:"retried"`
		}](), "/v1/increments/batch": poisoned[struct {
			Results []struct{ Error string } `json:"results"`
		}]()}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case mode == "refusal":
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write(poisoned[struct {
				Error string `json:"error"`
				Code  string `json:"code"`
			}]())
		case mode == "garbage":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(evil + "\xff\xfe\xc2"))
		case r.Method == http.MethodPost && answers[r.URL.Path] == nil || r.Method == http.MethodPost &&
			r.URL.Path == "/v1/alerts":
			_, _ = w.Write(poisoned[map[string]string]())
		default:
			_, _ = w.Write(answers[r.URL.Path])
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// requireHarmless looks for what a terminal would obey, and for lines that only seem to be ours.
func requireHarmless(t *testing.T, text string) {
	t.Helper()
	for i, r := range text {
		_, width := utf8.DecodeRuneInString(text[i:])
		require.False(t, r == utf8.RuneError && width == 1, "no UTF-8 in %q", text)
		require.False(t, r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp), "%U in %q",
			r, text)
	}
	require.NotContains(t, text, "\nxmq: forged", "text from outside begins no line")
}

// leaves are all commands that do something, as they are typed.
func leaves(path string, commands []*cli.Command) (all []string) {
	for _, c := range commands {
		if c.Action != nil {
			all = append(all, path+c.Name)
		}
		all = append(all, leaves(path+c.Name+" ", c.Subcommands)...)
	}
	return all
}

// The clients of a retry of all are named by the broker.
func TestARetryOfAllLetsNoTextSteerATerminal(t *testing.T) {
	for _, mode := range []string{"answer", "refusal", "garbage"} {
		for _, more := range [][]string{nil, {"--json"}} {
			code, out, errs := call(t, "", append([]string{"client", "retry", "--all", "--api", hostileBroker(t, mode)},
				more...)...)
			require.NotZero(t, code, mode)
			requireHarmless(t, out)
			requireHarmless(t, errs)
		}
	}
}

// Whatever text a broker hands on, no command lets a terminal obey it. A new command has to be named here.
func TestNoCommandLetsTextFromOutsideSteerATerminal(t *testing.T) {
	arguments := map[string][]string{ // of those that ask the API
		"publish": {"--retry", "1ms"}, // what says 500 may be a gateway before a broker that starts
		"status":  {}, "positions": {}, "client list": {}, "client add": {"n1"}, "client show": {"n1"},
		"client retry": {"n1"}, "client skip": {"n1", "--reason", "x"},
		"client replace": {"n1", "--reason", "x", "--body", "x"}, "client seek": {"n1", "1", "--reason", "x"},
		"client apply": {"n1", "1", "--reason", "x", "--confirm"}, "client forget": {"n1", "--reason", "x"},
		"client redump":  {"n1", "--reason", "x"},
		"producer reset": {"p1", "--reason", "x"},
		"log head":       {}, "log show": {"1"}, "log tail": {}, "log check": {}, "log trim": {},
		"log accept": {"--confirm", "--reason", "x"}, "snapshots": {},
		"snapshots cancel": {event.DumpID(1).String()}, "snapshots drop": {event.DumpID(1).String()}, "alerts": {"--all"},
		"alerts ack": {"k"}, "alerts clear": {"k"}, "events": {}, "audit": {}, "version": {},
	}
	// hear no broker over HTTP; dump has its own test
	elsewhere := []string{"demo", "init", "broker", "node", "dump", "bench"}
	for _, path := range leaves("", commands()) {
		args, known := arguments[path]
		require.True(t, known || slices.Contains(elsewhere, path), "xmq %s: add it to this test", path)
		if !known {
			continue
		}
		for _, mode := range []string{"answer", "refusal", "garbage"} {
			for _, form := range []string{"text", "json"} {
				t.Run(strings.Join([]string{path, mode, form}, "/"), func(t *testing.T) {
					words := append(strings.Fields(path), append([]string{"--api", hostileBroker(t, mode)}, args...)...)
					if form == "json" {
						words = append(words, "--json")
					}
					code, out, errs := call(t, "a line\n", words...)
					if path == "log show" && mode == "answer" && form == "text" {
						require.Equal(t, evil, out, "a body goes into a file as it is")
						return
					}
					requireHarmless(t, out)
					requireHarmless(t, errs)
					require.NotEmpty(t, out+errs)
					if form == "json" && code == 0 {
						var v any
						require.NoError(t, json.Unmarshal([]byte(out), &v), out)
						require.NotContains(t, out, `\\x`, "JSON says what was there, in its own way of writing")
					}
				})
			}
		}
	}
}

// JSON keeps what it means.
func TestJSONIsEscapedAndExact(t *testing.T) {
	out := good(t, "", "audit", "--json", "--api", hostileBroker(t, "answer"))
	var all []api.AuditView
	require.NoError(t, json.Unmarshal([]byte(out), &all))
	require.Equal(t, evil, all[0].Reason)
}

// xmq dump hears the broker over NATS.
func TestADumpLetsNoRefusalSteerATerminal(t *testing.T) {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoLog: true,
		NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	conn, err := bus.Dial(s.ClientURL(), "broker")
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	sub, err := conn.Subscribe(event.AnySubject("main", event.Up), func(m bus.Msg) {
		if e, err := event.Decode(m.Data); err == nil && e.Kind == event.DumpReq {
			no := event.Event{Kind: event.DumpRep, State: event.Fail, Code: event.Refused, Group: e.Group, ID: e.ID,
				Request: e.Request, Text: evil}
			_ = conn.Publish(event.Subject(e.Group, event.Down, e.ID), no.Append(nil))
		}
	})
	require.NoError(t, err)
	t.Cleanup(sub.Stop)
	require.NoError(t, conn.Flush(t.Context()))
	code, out, errs := call(t, "", "dump", "--from", "n1", "-o", filepath.Join(t.TempDir(), "f"), "--broker",
		s.ClientURL())
	require.NotZero(t, code)
	require.Contains(t, errs, "all is well")
	requireHarmless(t, out+errs)
}

// A terminal is shown a body, a file gets it.
func TestABodyOnATerminal(t *testing.T) {
	var b bytes.Buffer
	_, err := screen{w: &b}.Write([]byte("a\tb\n\x1b[2J\xff\u202e\u200c\u00e4\U0001f600"))
	require.NoError(t, err)
	require.Equal(t, "a\tb\n\\x1b[2J\\xff\\u202e\u200c\u00e4\U0001f600", b.String())
	require.Equal(t, os.Stdout, raw(screen{w: os.Stdout}), "a terminal is found below a screen")
}
