package server

import (
	"context"
	"net/http"
	"net/http/pprof"
)

// profiles serves profiles of this process until ctx ends. They have an address of their own: a profile shows what
// the process holds, and making one costs.
func (b *Broker) profiles(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s := &http.Server{Handler: mux}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = s.Close() // a profile that runs is cut off
	})
	err := b.serve(s, b.pprof, b.cfg.Pprof)
	if !stop() {
		<-closed
	}
	return err
}
