package door

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

func TestCheckIsTheSameAtEveryDoor(t *testing.T) {
	ok := event.Draft{Headers: event.Headers{Topic: "shop", ContentType: "text/plain", Origin: "till 3 ä", Producer: "p1",
		Key: strings.Repeat("k", MaxKey)}, Body: make([]byte, 10)}
	require.Nil(t, Check(&ok, 10))
	require.Nil(t, Check(&event.Draft{Body: []byte{0}}, 10))
	for want, change := range map[Code][]func(*event.Draft){
		Empty:    {func(d *event.Draft) { d.Body = nil }},
		TooLarge: {func(d *event.Draft) { d.Body = make([]byte, 11) }},
		Invalid: {func(d *event.Draft) { d.Key += "k" }, func(d *event.Draft) { d.Key = "a\x00" },
			func(d *event.Draft) { d.ContentType = "a\r\nb: c" },
			func(d *event.Draft) { d.Origin = "\x7f" }, func(d *event.Draft) { d.Origin = strings.Repeat("o", 256) },
			func(d *event.Draft) { d.Topic = "A" },
			func(d *event.Draft) { d.Producer = "a.b" }},
	} {
		for _, c := range change {
			d := ok
			c(&d)
			r := Check(&d, 10)
			require.NotNil(t, r)
			require.Equal(t, want, r.Code)
			require.NotEmpty(t, r.Error())
		}
	}
}

// A request that ends before its write has an unknown outcome, which is never success (XD-5).
func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	never := Ingest(func([]event.Draft, func([]event.Outcome, error)) { cancel() })
	out, err := never.Wait(ctx, nil)
	require.Nil(t, out)
	var r *Refusal
	require.ErrorAs(t, err, &r)
	require.Equal(t, Unknown, r.Code)

	at := Ingest(func(_ []event.Draft, done func([]event.Outcome, error)) { done([]event.Outcome{{Seq: 7}}, nil) })
	out, err = at.Wait(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, []event.Outcome{{Seq: 7}}, out)
}

// A time limit is read at every door with headers, and a wrong one is refused with what it can be.
func TestHeadersNameATimeLimit(t *testing.T) {
	set := func(values ...string) (event.Draft, *Refusal) {
		d := event.Draft{Body: []byte("x")}
		return d, SetHeaders(&d, func(name string) []string {
			if name == HeaderApplyLimit {
				return values
			}
			return nil
		})
	}
	for said, want := range map[string]time.Duration{"2h": 2 * time.Hour, "none": event.NoLimit, "0": event.NoLimit,
		"1s": time.Second} {
		d := event.Draft{Body: []byte("x")}
		require.Nil(t, SetHeaders(&d,
			func(name string) []string { return map[string][]string{HeaderApplyLimit: {said}}[name] }))
		require.Equal(t, want, d.Limit, said)
		require.Nil(t, Check(&d, 10))
	}
	for _, said := range []string{"", "5ms", "31d", "721h", "-1s", "soon"} {
		_, refused := set(said)
		require.NotNil(t, refused, said)
		require.Equal(t, Invalid, refused.Code)
		require.Contains(t, refused.Text, "Xmq-Apply-Limit: ")
		require.Contains(t, refused.Text, "is no time limit: say 1s to 720h0m0s")
	}
	_, refused := set("1s", "2s")
	require.NotNil(t, refused)
	_, refused = set()
	require.Nil(t, refused)
	require.NotNil(t, Check(&event.Draft{Headers: event.Headers{Limit: time.Millisecond}, Body: []byte("x")}, 10))
}
