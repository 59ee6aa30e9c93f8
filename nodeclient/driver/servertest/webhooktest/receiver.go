// Package webhooktest is somebody's program behind HTTP, for tests of the driver that calls it.
//
// A Receiver remembers what it was sent and answers as the chapter of the databases says; a Rule lets a test answer
// otherwise: refuse, ask to wait, cut the connection, or do nothing.
package webhooktest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Receiver keeps the body of each POST as a line, dumps and loads all of them, and refuses the body "bad". Safe for
// concurrent use.
type Receiver struct {
	server *httptest.Server

	mu    sync.Mutex
	live  []string
	fresh []string
	seen  []*http.Request
	rule  Rule
}

// Rule sees each request with its body first; true says that it has answered. It runs under the Receiver's lock.
type Rule func(w http.ResponseWriter, r *http.Request, body string) (answered bool)

// New starts a receiver that ends with the test.
func New(t *testing.T) *Receiver {
	r := &Receiver{}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

// ServeHTTP implements http.Handler.
func (s *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
	if s.rule != nil && s.rule(w, r, string(b)) {
		return
	}
	switch op := r.Header.Get("Xmq-Op"); {
	case op == "dump":
		_, _ = io.WriteString(w, strings.Join(s.live, "")) // a reader that is gone needs nothing
	case op == "discard":
		s.fresh = nil
	case op == "load":
		s.fresh = slices.Collect(strings.Lines(string(b)))
	case op == "switch":
		s.live, s.fresh = s.fresh, nil
	case op == "empty" && len(s.live) > 0:
		w.WriteHeader(http.StatusConflict)
	case op == "empty":
		w.WriteHeader(http.StatusNoContent)
	case string(b) == "bad":
		http.Error(w, "this one is refused", http.StatusUnprocessableEntity)
	default:
		s.live = append(s.live, string(b)+"\n")
	}
}

// URL is where it listens.
func (s *Receiver) URL() string { return s.server.URL }

// Target is a target URL with all hooks; more is added to them: "&online=true".
func (s *Receiver) Target(more string) string {
	copies := url.QueryEscape(s.URL() + "/copy")
	return "webhook:" + s.URL() + "#dump=" + copies + "&load=" + copies + more
}

// Close ends it before the test does.
func (s *Receiver) Close() { s.server.Close() }

// Set replaces the rule (nil: none) and empties the live copy.
func (s *Receiver) Set(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule, s.live = rule, nil
}

// Heal ends the rule.
func (s *Receiver) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = nil
}

// Keep adds a body to the live copy; it is for rules.
func (s *Receiver) Keep(body string) { s.live = append(s.live, body+"\n") }

// Bodies are the lines of the live copy.
func (s *Receiver) Bodies() (bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.live {
		bodies = append(bodies, strings.TrimSuffix(line, "\n"))
	}
	return bodies
}

// Seen are the requests so far.
func (s *Receiver) Seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}
