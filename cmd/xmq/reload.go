package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"xmq/configs"
)

// reloaded are the knobs that SIGHUP changes in a running process.
var reloaded = map[string]bool{"log_level": true}

// reload reads the configuration again at each SIGHUP until the command ends: what can change in a running process changes, and one line
// says what did and what needs a restart. The signal never ends the process. running is what it runs with, fresh makes the defaults.
func reload[T any](c *cli.Context, running *T, fresh func() T, level *slog.LevelVar, log *slog.Logger) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	now := *running
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-c.Context.Done():
				return
			case <-signals:
				again(c, &now, fresh(), level, log)
			}
		}
	}()
}

// again is one SIGHUP.
func again[T any](c *cli.Context, now *T, cfg T, level *slog.LevelVar, log *slog.Logger) {
	var l slog.Level
	if err := loadKnobs(c, &cfg); err != nil {
		log.Warn("SIGHUP: the configuration cannot be read again: nothing has changed", "err", err)
		return
	}
	var changed, restart []string
	fresh := configs.Fields(&cfg)
	for i, f := range configs.Fields(now) {
		switch {
		case f.Value() == fresh[i].Value():
		case reloaded[f.Key]:
			if err := l.UnmarshalText([]byte(strings.Trim(fresh[i].Value(), `"`))); err != nil {
				log.Warn("SIGHUP: log_level must be debug, info, warn or error: nothing has changed", "err", err)
				return
			}
			changed = append(changed, f.Key)
		default:
			restart = append(restart, f.Key)
		}
	}
	if len(changed) > 0 {
		log.Log(context.Background(), max(slog.LevelInfo, level.Level(), l), "SIGHUP: the log level is another one now", "level", l)
		level.Set(l)
		for i, f := range configs.Fields(now) { // what runs now
			if reloaded[f.Key] {
				f.Copy(fresh[i])
			}
		}
	}
	log.Log(context.Background(), max(slog.LevelInfo, level.Level()), "SIGHUP: the configuration was read again", "changed", strings.Join(changed, ","), "needs a restart", strings.Join(restart, ","))
}
