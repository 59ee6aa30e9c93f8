package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/door"
)

// bodiesServer serves next after Bodies.
func bodiesServer(t *testing.T, b *Bodies, next http.HandlerFunc) *httptest.Server {
	b.Next = next
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return s
}

// readAll answers with the body, as the door reads one, or refuses.
func readAll(limit int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := Read(w, r, limit)
		if err != nil {
			refuse(w, err)
			return
		}
		_, _ = w.Write(body)
	}
}

// A body comes through byte by byte, whatever its length is and however it is announced, and its bytes go back to the
// budget.
func TestBodiesOfEveryLength(t *testing.T) {
	budget := door.NewBudget(64 << 20)
	s := bodiesServer(t, &Bodies{Budget: budget}, readAll(1<<20))
	for _, n := range []int{1, firstPiece - 1, firstPiece, firstPiece + 1, door.Step - 1, door.Step, door.Step + 1,
		2 * door.Step, 3*door.Step + 7, 1 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdefX"), n/17+1)[:n]
		for kind, in := range map[string]io.Reader{"announced": bytes.NewReader(body),
			"chunked": chunked{bytes.NewReader(body)}} {
			res, err := http.Post(s.URL, "", in)
			require.NoError(t, err)
			got, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.True(t, bytes.Equal(body, got), "%d bytes, %s", n, kind)
			require.Eventually(t, func() bool { return budget.Used() == 0 }, 2*time.Minute, time.Millisecond)
		}
	}
	res, err := http.Post(s.URL, "", chunked{bytes.NewReader(make([]byte, 1<<20+1))})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
}

// unfinished sends a request that announces n bytes and sends only some of them.
func unfinished(t *testing.T, s *httptest.Server, n, some int) net.Conn {
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", n)
	require.NoError(t, err)
	_, _ = c.Write(make([]byte, some)) // the answer may come before all is sent
	return c
}

func answerOf(t *testing.T, c net.Conn) (int, string, http.Header) {
	require.NoError(t, c.SetReadDeadline(time.Now().Add(2*time.Minute)))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, string(text), res.Header
}

// Bodies that do not come to their end take no more than the budget: the others are told to try again, small ones are
// taken all the while, and all of it is there again when they have gone.
func TestUnfinishedBodiesShareABudget(t *testing.T) {
	budget := door.NewBudget(16 << 20)
	s := bodiesServer(t, &Bodies{Budget: budget, Grace: time.Hour}, readAll(4<<20))
	var held []net.Conn
	for range 2 { // 8 MiB is the share of what lies beyond first steps
		held = append(held, unfinished(t, s, 4<<20, 4<<20-1))
	}
	require.Eventually(t, func() bool { return budget.Used() == 8<<20 }, 2*time.Minute, time.Millisecond)
	for range 3 {
		status, text, h := answerOf(t, unfinished(t, s, 4<<20, 5*door.Step))
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, text, `"busy"`)
		require.Equal(t, "1", h.Get("Retry-After"))
		res, err := http.Post(s.URL, "", strings.NewReader("small"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	require.LessOrEqual(t, budget.Used(), int64(16<<20))
	for _, c := range held {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return budget.Used() == 0 }, 2*time.Minute, time.Millisecond)
}

// A body that stops is answered 408, however much of it came quickly before; one that comes steadily is waited for,
// and so is an answer.
func TestSlowBodiesAreNotWaitedFor(t *testing.T) {
	b := &Bodies{Budget: door.NewBudget(16 << 20), Rate: 1 << 20, Grace: 200 * time.Millisecond}
	wait := make(chan struct{})
	s := bodiesServer(t, b, func(w http.ResponseWriter, r *http.Request) {
		readAll(4<<20)(w, r)
		<-wait
	})
	close(wait)
	for _, some := range []int{0, 1, 3 << 20} {
		status, text, _ := answerOf(t, unfinished(t, s, 4<<20, some))
		require.Equal(t, http.StatusRequestTimeout, status, some)
		require.Contains(t, text, `"slow"`)
	}
	require.Eventually(t, func() bool { return b.Budget.Used() == 0 }, 2*time.Minute, time.Millisecond)

	// A second of steady bytes at twice the least rate, which is five times what may be late.
	c := unfinished(t, s, 2<<20, 0)
	clock := time.NewTicker(25 * time.Millisecond)
	defer clock.Stop()
	for sent := 0; sent < 2<<20; sent += 64 << 10 {
		<-clock.C
		_, err := c.Write(make([]byte, 64<<10))
		require.NoError(t, err)
	}
	status, _, _ := answerOf(t, c)
	require.Equal(t, http.StatusOK, status)

	// When the body is there, the time of the answer is not the client's.
	wait = make(chan struct{})
	late := time.AfterFunc(600*time.Millisecond, func() { close(wait) })
	defer late.Stop()
	ended := make(chan error, 1)
	s = bodiesServer(t, b, func(w http.ResponseWriter, r *http.Request) {
		_, err := Read(w, r, 100)
		<-wait
		ended <- r.Context().Err()
		require.NoError(t, err)
	})
	res, err := http.Post(s.URL, "", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.NoError(t, <-ended, "the request was not given up meanwhile")
}

// Lines of a batch are found whatever their length is, also where they do not fit into one piece.
func TestLinesOfABatch(t *testing.T) {
	budget := door.NewBudget(64 << 20)
	var got []string
	s := bodiesServer(t, &Bodies{Budget: budget}, func(w http.ResponseWriter, r *http.Request) {
		got = nil
		if err := readLines(w, r, 8<<20, func(n int, line []byte) error {
			require.Equal(t, len(got)+1, n)
			got = append(got, string(line))
			return nil
		}); err != nil {
			refuse(w, err)
		}
	})
	var want []string
	for _, n := range []int{0, 1, door.Step - 2, door.Step - 1, door.Step, door.Step + 1, 3*door.Step + 5, 1 << 20, 0} {
		want = append(want, strings.Repeat("x", n))
	}
	for _, end := range []string{"", "\n"} {
		lines := append(want, strings.TrimSuffix(end, "\n"))
		res, err := http.Post(s.URL, "", strings.NewReader(strings.Join(lines, "\n")))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, lines, got)
		require.Eventually(t, func() bool { return budget.Used() == 0 }, 2*time.Minute, time.Millisecond)
	}
}

// A client that reads nothing before it has sent all of a body that is too large, as urllib of Python does, sees the
// answer; one that waits for it before it sends more does not wait.
func TestARefusalReachesClientsThatSendAllFirst(t *testing.T) {
	budget := door.NewBudget(16 << 20)
	s := bodiesServer(t, &Bodies{Budget: budget}, readAll(1<<20))
	for _, head := range []string{"Content-Length: 20971520\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1400000\r\n"} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"+head)
		require.NoError(t, err)
		_, err = c.Write(make([]byte, 20<<20))
		require.NoError(t, err, "the connection stands until all is sent")
		if strings.HasPrefix(head, "Transfer") {
			_, err = io.WriteString(c, "\r\n0\r\n\r\n")
			require.NoError(t, err)
		}
		status, text, _ := answerOf(t, c)
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
		require.Contains(t, text, `"code":"too_large"`)
	}
	status, _, _ := answerOf(t, unfinished(t, s, 20<<20, 0))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	require.Eventually(t, func() bool { return budget.Used() == 0 }, 2*time.Minute, time.Millisecond)
}
