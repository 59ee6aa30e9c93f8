package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"xmq/broker/door"
	httpdoor "xmq/broker/door/http"
)

// guard lets through what a program or a person at this server sent, and keeps out what somebody else's page made a
// browser send. It stands before every handler of the broker, on loopback too, because a browser on the same machine
// reaches loopback.
//
// Two rules. A request names the server by an address, by localhost, or by a name that is this server's: any other
// name may be one that was pointed here a moment ago, so that its page counts as ours (421). And a method that may
// change something comes from no other origin, by the word of the browser (403); requests without that word are no
// browser's. GET and HEAD are always served, so that links work: they change nothing, and the headers of the answer
// let no other page read it.
type guard struct {
	next  http.Handler
	names map[string]bool // in lower case
	cross *http.CrossOriginProtection
}

// newGuard guards next. addr is the HOST:PORT that is listened on, hosts are further names of this server.
func newGuard(next http.Handler, addr string, hosts []string) *guard {
	g := &guard{next: next, names: map[string]bool{"localhost": true}, cross: http.NewCrossOriginProtection()}
	own, _, _ := net.SplitHostPort(addr) // checked by Config.Validate
	for _, name := range append([]string{own}, hosts...) {
		if name != "" {
			g.names[strings.ToLower(name)] = true
		}
	}
	return g
}

// guarded are headers of every answer: no cache keeps it, no other page reads or frames it, and its bytes are taken
// for no script.
var guarded = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range guarded {
		w.Header().Set(name, value)
	}
	switch {
	case !g.named(r.Host):
		httpdoor.Fail(w, http.StatusMisdirectedRequest, "host",
			"this broker is not called by the name in the Host header: ask for it by its address, or add the name to http_hosts")
	case g.cross.Check(r) != nil:
		httpdoor.Fail(w, http.StatusForbidden, "origin",
			"a page of another origin made a browser send this: nothing was taken; send it from a program, or from a page of "+
				"this broker")
	case r.Method == http.MethodConnect: // no path of ours: the mux would answer in words of its own
		w.Header().Set("Allow", "GET, POST")
		httpdoor.Fail(w, http.StatusMethodNotAllowed, door.Method, "this broker is no proxy: it takes GET and POST")
	default:
		g.next.ServeHTTP(w, r)
	}
}

// named reports whether a Host header names this server. A literal address does: nobody can point it elsewhere.
func (g *guard) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if inner, found := strings.CutPrefix(host, "["); found {
		host = strings.TrimSuffix(inner, "]")
	}
	_, err := netip.ParseAddr(host)
	return err == nil || g.names[strings.ToLower(host)]
}
