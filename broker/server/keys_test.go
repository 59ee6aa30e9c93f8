package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/door"
	"xmq/broker/event"
	"xmq/increments"
)

// ask sends one request to a running broker, and decodes the answer.
func (r *running) ask(path, body string, headers ...string) (status int, answer map[string]any) {
	r.t.Helper()
	req, err := http.NewRequest("POST", "http://"+r.HTTPAddr()+path, strings.NewReader(body))
	require.NoError(r.t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	require.NoError(r.t, dec.Decode(&answer), "%s", b)
	return res.StatusCode, answer
}

// What the log says of a draft becomes a code that blames the client only for what it did.
func TestOutcomesBlameTheClientForWhatItDid(t *testing.T) {
	for err, want := range map[error]door.Code{
		increments.ErrTooOld: door.TooOld, increments.ErrKeyReused: door.KeyReused, increments.ErrJump: door.Jump,
		increments.ErrTooLarge: door.TooLarge, increments.ErrInvalid: door.Invalid,
		increments.ErrQuarantined: door.Busy, fs.ErrPermission: door.Busy, errors.New("whatever comes"): door.Busy,
	} {
		req := &request{all: make([]event.Outcome, 1)}
		req.take([]event.Outcome{{Err: fmt.Errorf("look up: %w", err)}})
		require.Equal(t, want, door.RefusalOf(req.all[0]).Code, "%v", err)
		require.Equal(t, want == door.Busy, door.RefusalOf(req.all[0]).Code.Retryable())
	}
}

// XQ-6, over HTTP: keys are text, numbers count, a producer's counter is mended by an operator, and all of it
// outlives the segments, which retention frees, and restarts.
func TestXQ06KeysAndNumbersOverHTTP(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 20
	r := startBroker(t, cfg)
	const pub = "/v1/increments"
	want := func(wantStatus int, code string, dup bool, body string, headers ...string) {
		t.Helper()
		status, a := r.ask(pub, body, headers...)
		require.Equal(t, wantStatus, status, a)
		if code == "" {
			require.Equal(t, dup, a["duplicate"] == true, a)
			return
		}
		require.Equal(t, code, a["code"])
		require.Equal(t, false, a["retryable"])
	}
	for _, key := range []string{"1000", "17", "free", "18446744073709551615", "3"} { // order numbers come in any order
		want(200, "", false, "p"+key, "Idempotency-Key", key, "Xmq-Producer", "shop")
		want(200, "", false, "anonymous"+key, "Idempotency-Key", key) // a name space of their own
	}
	want(409, "key_reused", false, "another", "Idempotency-Key", "17")
	want(409, "key_reused", false, "p17", "Idempotency-Key", "17", "Xmq-Producer", "shop", "Xmq-Topic", "t")
	want(200, "", false, "a", "Xmq-Number", "1000", "Xmq-Producer", "shop")
	want(409, "jump", false, "b", "Xmq-Number", "18446744073709551615", "Xmq-Producer", "shop")
	want(409, "too_old", false, "c", "Xmq-Number", "999", "Xmq-Producer", "shop")
	want(200, "", false, "d", "Xmq-Number", "5", "Xmq-Producer", "capture", "Xmq-Sparse", "1")
	want(200, "", false, "e", "Xmq-Number", "18446744073709551615", "Xmq-Producer", "capture")
	want(400, "invalid", false, "f", "Xmq-Number", "7")
	want(400, "invalid", false, "f", "Xmq-Number", "7", "Xmq-Producer", "shop", "Idempotency-Key", "7")
	want(400, "invalid", false, "f", "Idempotency-Key", "")
	want(400, "invalid", false, "f", "Idempotency-Key", "\xff\xfe")
	status, a := r.ask(pub+"/batch", `{"body":"g","number":1001,"producer":"shop"}`+"\n"+
		`{"body":"h","number":"1002","producer":"shop"}`+
		"\n"+`{"body":"i","number":9,"producer":"lines","sparse":true}`+"\n"+`{"body":"j","key":"1001","producer":"shop"}`)
	require.Equal(t, 200, status, a)
	require.Equal(t, json.Number("4"), a["count"])
	for _, line := range []string{`{"body":"x","number":1}`, `{"body":"x","number":-1,"producer":"p"}`,
		`{"body":"x","number":1.5,"producer":"p"}`,
		`{"body":"x","number":1e3,"producer":"p"}`, `{"body":"x","key":""}`, `{"body":"x","key":7}`,
		`{"body":"x","sparse":1}`,
		`{"body":"x","sparse":true}`, `{"body":"x","number":1,"key":"k","producer":"p"}`} {
		status, a := r.ask(pub+"/batch", line)
		require.Equal(t, 400, status, line)
		require.Equal(t, "invalid", a["code"])
	}
	status, a = r.ask("/v1/producers/capture/reset", `{"reason":"a number by mistake"}`)
	require.Equal(t, 200, status, a)
	require.Equal(t, json.Number("18446744073709551615"), a["highest"])
	want(200, "", false, "k", "Xmq-Number", "6", "Xmq-Producer", "capture")
	for path, body := range map[string]string{"/v1/producers/nobody/reset": `{"reason":"x"}`,
		"/v1/producers/capture/reset": `{}`, "/v1/producers/BAD/reset": `{"reason":"x"}`} {
		status, _ := r.ask(path, body)
		require.Contains(t, []int{400, 404}, status, path)
	}
	audits, err := r.stores.state.Audits(10)
	require.NoError(t, err)
	require.Len(t, audits, 1)
	require.Equal(t, "reset producer", audits[0].Verb)
	require.Equal(t, "capture", audits[0].Client)
	r.fill(60)
	again := func() {
		t.Helper()
		for _, key := range []string{"1000", "17", "free", "18446744073709551615", "3"} {
			want(200, "", true, "p"+key, "Idempotency-Key", key, "Xmq-Producer", "shop")
			want(200, "", true, "anonymous"+key, "Idempotency-Key", key)
		}
		want(200, "", true, "a", "Xmq-Number", "1000", "Xmq-Producer", "shop")
		want(200, "", true, "k", "Xmq-Number", "6", "Xmq-Producer", "capture")
	}
	again()
	_, err = r.stores.log.Trim(r.stores.log.Head().Seq)
	require.NoError(t, err)
	require.Greater(t, r.stores.log.First(), uint64(40))
	again()
	require.NoError(t, r.stop())
	r = startBroker(t, cfg)
	again()
}

// An index of keys that was removed is made again while the broker serves, and what cannot be made again is told.
func TestLostIndexOfKeysIsTold(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 10
	r := startBroker(t, cfg)
	for n := range 35 {
		status, _ := r.ask("/v1/increments", fmt.Sprint("body", n), "Idempotency-Key", fmt.Sprint(n))
		require.Equal(t, 200, status)
	}
	_, err := r.stores.log.Trim(21)
	require.NoError(t, err)
	require.NoError(t, r.stop())
	parts, err := filepath.Glob(filepath.Join(cfg.Data, "log", "keys-*"))
	require.NoError(t, err)
	require.NotEmpty(t, parts)
	for _, p := range parts {
		require.NoError(t, os.RemoveAll(p))
	}
	r = startBroker(t, cfg)
	soon(t, "the alert stands", func() bool {
		for _, a := range r.stores.state.Alerts() {
			if a.Key == "keys" {
				return strings.Contains(a.Text, "increments 1 to 20,")
			}
		}
		return false
	})
	soon(t, "the index is made again", func() bool {
		st, err := r.stores.log.Stats()
		return err == nil &&
			st.Indexed == 30
	})
	for n := range 35 {
		status, a := r.ask("/v1/increments", fmt.Sprint("body", n), "Idempotency-Key", fmt.Sprint(n))
		require.Equal(t, 200, status)
		require.Equal(t, n >= 20, a["duplicate"] == true, n)
	}
}
