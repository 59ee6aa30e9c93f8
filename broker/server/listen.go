package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	httpdoor "xmq/broker/door/http"
)

// reached refuses an address that other machines reach. What listens here knows no keys, so whoever reaches it reads
// and writes everything. Host names are resolved: all they stand for must be this machine alone.
func reached(key, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s is %q: it must be HOST:PORT", key, addr)
	}
	if strings.EqualFold(host, "localhost") {
		return nil
	}
	var all []netip.Addr
	if one, err := netip.ParseAddr(host); err == nil {
		all = []netip.Addr{one}
	} else if host != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if all, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
			kind := ErrConfig
			if no := (*net.DNSError)(nil); !errors.As(err, &no) || !no.IsNotFound {
				kind = errTemporary
			}
			return say(kind, "%s %s: the name cannot be resolved (%v), so nobody knows who reaches it: write an address", key,
				addr, err)
		}
	}
	here := len(all) > 0 // no host means all addresses
	for _, a := range all {
		here = here && a.Unmap().IsLoopback()
	}
	if !here {
		return say(ErrConfig, "%s %s is reached from other machines: listen on 127.0.0.1, or --insecure-i-know for a "+
			"network that is yours alone", key, addr)
	}
	return nil
}

// insecure is the text of the alert that stands while insecure_i_know is on.
const insecure = "insecure_i_know is on: whoever reaches the addresses of this broker reads and writes everything " +
	"in it and in the databases of its nodes; " +
	"take the knob away when all listen on this machine alone"

// serve answers HTTP requests on l with s until s is closed; nil then. Every listener of the broker that speaks HTTP
// is served here: its connections are counted and end when nothing is said, the guard stands before its handler, and
// bodies take from the budget. addr is the configured address of l.
func (b *Broker) serve(s *http.Server, l net.Listener, addr string) error {
	s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes = 5*time.Second, time.Minute, 16<<10
	s.Handler = newGuard(&httpdoor.Bodies{Next: s.Handler, Budget: b.budget}, addr, b.cfg.HTTPHosts)
	s.ErrorLog = slog.NewLogLogger(b.log.Handler(), slog.LevelWarn)
	s.ConnState = b.httpConns.state
	if err := s.Serve(&capped{l, b.httpConns}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
