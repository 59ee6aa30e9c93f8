package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"xmq/configs"
)

// reloading is a process whose configuration is read again at SIGHUP.
type reloading[T any] struct {
	now   T              // what it runs with
	fresh func() T       // the defaults
	level *slog.LevelVar // log_level, which always changes
	log   *slog.Logger
	takes func(key string) bool // whether apply changes the knob in the running process
	apply func(T) error         // an error, in one sentence: nothing has changed
}

// hangUps are the SIGHUPs from now on; one of them waits until somebody obeys it.
func hangUps(c *cli.Context) <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	context.AfterFunc(c.Context, func() { signal.Stop(signals) })
	return signals
}

// serve reads the configuration again at each of signals until the command ends: what can change in a running process
// changes, and one line says what did and what needs a restart.
func (r *reloading[T]) serve(c *cli.Context, signals <-chan os.Signal) {
	go func() {
		for {
			select {
			case <-c.Context.Done():
				return
			case <-signals:
				r.again(c)
			}
		}
	}()
}

// again is one SIGHUP.
func (r *reloading[T]) again(c *cli.Context) {
	cfg := r.fresh()
	nothing := func(err error) {
		r.log.Warn("SIGHUP: the configuration cannot be read again: nothing has changed", "err", err)
	}
	if err := loadKnobs(c, &cfg); err != nil {
		nothing(err)
		return
	}
	var changed, restart []string
	level := r.level.Level()
	fresh := configs.Fields(&cfg)
	for i, f := range configs.Fields(&r.now) {
		switch {
		case f.Value() == fresh[i].Value():
		case f.Key == "log_level":
			if err := level.UnmarshalText([]byte(strings.Trim(fresh[i].Value(), `"`))); err != nil {
				nothing(fmt.Errorf("log_level must be debug, info, warn or error: %w", err))
				return
			}
			changed = append(changed, f.Key)
		case r.takes(f.Key):
			changed = append(changed, f.Key)
		default:
			restart = append(restart, f.Key)
		}
	}
	if err := r.apply(cfg); err != nil {
		nothing(err)
		return
	}
	loud := max(slog.LevelInfo, r.level.Level(), level) // it is to be seen
	r.level.Set(level)
	for i, f := range configs.Fields(&r.now) { // what runs now
		if f.Key == "log_level" || r.takes(f.Key) {
			f.Copy(fresh[i])
		}
	}
	r.log.Log(context.Background(), loud, "SIGHUP: the configuration was read again", "changed",
		strings.Join(changed, ","), "needs a restart", strings.Join(restart, ","))
}
