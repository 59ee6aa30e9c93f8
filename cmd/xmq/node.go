package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/configs"
	"xmq/dumpflow"
	"xmq/nodeclient"
	"xmq/nodeclient/target/file"
	"xmq/nodeclient/target/postgres"
	"xmq/nodeclient/target/sqlite"
)

func nodeCommand() *cli.Command {
	defaults := configs.DefaultNode()
	return &cli.Command{
		Name: "node", Usage: "run a node beside a database",
		Description: "The first node: xmq node --id master --target sqlite:master.db\n" +
			"Every other one joins by DUMP: xmq node --id node1 --from master --target sqlite:node1.db",
		Flags: knobFlags(&defaults),
		Action: func(c *cli.Context) error {
			cfg := configs.DefaultNode()
			if err := loadKnobs(c, &cfg); err != nil {
				return err
			}
			log, err := configs.Logger(c.App.ErrWriter, cfg.LogLevel)
			if err != nil {
				return err
			}
			return runNode(c.Context, cfg, log)
		},
	}
}

// runNode is the life of a node process.
func runNode(ctx context.Context, cfg configs.Node, log *slog.Logger) (err error) {
	o, err := cfg.Options(log)
	if err != nil {
		return err
	}
	if err := event.CheckID(o.ID); err != nil {
		return fmt.Errorf("%w: id: %w", configs.ErrConfig, err)
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return err
	}
	target, driver, err := openTarget(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	o.Driver = driver
	road, err := bus.Dial(cfg.Broker, o.ID)
	if err != nil {
		return fmt.Errorf("%w: broker: %w", configs.ErrConfig, err)
	}
	defer road.Close()
	a, err := nodeclient.New(road, target, o)
	if err != nil {
		return fmt.Errorf("%w: %w", configs.ErrConfig, err)
	}
	if cfg.Restore != "" {
		if err := loadBackup(ctx, a, target, under(cfg.Data, cfg.Restore), log); err != nil {
			return err
		}
	}
	if !road.Up() {
		log.Warn("the broker does not answer yet: trying until it does", "client", o.ID, "broker", configs.Redacted(cfg.Broker))
	}
	log.Info("node starts", "client", o.ID, "broker", configs.Redacted(cfg.Broker), "target", driver)
	return a.Run(ctx)
}

// loadBackup loads a backup file into a database that has no position yet; later starts pass over it.
func loadBackup(ctx context.Context, a *nodeclient.Agent, target nodeclient.Target, path string, log *slog.Logger) error {
	pos, err := target.Position(ctx)
	if err == nil && !pos.Zero() {
		log.Info("the database has a position already: the backup is not loaded", "seq", pos.Seq)
		return nil
	}
	f, err := dumpflow.OpenArchive(path)
	if errors.Is(err, event.ErrDamaged) {
		return &damageError{err}
	}
	if err != nil {
		return &ioError{err}
	}
	defer f.Close()
	if err := a.LoadBackup(ctx, f.Manifest(), f); err != nil {
		return err
	}
	log.Info("backup loaded", "file", path, "seq", f.Manifest().Pos.Seq)
	return nil
}

// targets are the forms of a target URL.
const targets = "sqlite:PATH, postgres://USER@HOST:PORT/DATABASE or file:PATH"

// openTarget opens the database a target URL names, and says which driver it is.
func openTarget(ctx context.Context, cfg configs.Node) (nodeclient.Target, string, error) {
	scheme, rest, found := strings.Cut(cfg.Target, ":")
	if !found || rest == "" {
		return nil, "", fmt.Errorf("%w: target %q is no database: write "+targets, configs.ErrConfig, cfg.Target)
	}
	var t nodeclient.Target
	var err error
	switch path := under(cfg.Data, rest); scheme {
	case "sqlite":
		t, err = openFile(path, func() (nodeclient.Target, error) { return sqlite.Open(ctx, path, sqlite.Options{}) })
	case "file":
		t, err = openFile(path, func() (nodeclient.Target, error) { return file.Open(path) })
	case "postgres", "postgresql":
		scheme = "postgres"
		t, err = postgres.Open(ctx, cfg.Target, postgres.Options{})
	default:
		return nil, "", fmt.Errorf("%w: there is no target driver %q in this version: use "+targets, configs.ErrConfig, scheme)
	}
	var away *temporaryError
	switch wrongPath := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EISDIR); {
	case err == nil, errors.As(err, &away):
	case nodeclient.IsTransient(err) && !wrongPath:
		err = &temporaryError{err}
	default:
		err = fmt.Errorf("%w: target: %w", configs.ErrConfig, err)
	}
	return t, scheme, err
}

// openFile opens a database that is a file of this process alone.
func openFile(path string, open func() (nodeclient.Target, error)) (nodeclient.Target, error) {
	lock, err := claim(path)
	if err != nil {
		return nil, err
	}
	t, err := open()
	if err != nil {
		_ = lock.Close() // the error of opening is the one to tell
		return nil, err
	}
	return &claimed{t, lock}, nil
}

// claimed is a database file that belongs to this process.
type claimed struct {
	nodeclient.Target
	lock *os.File
}

// claim takes a database file by a lock on PATH.lock, which the kernel frees when the process ends: two nodes on one file would
// overtake each other, and the healthy one would lose its copy.
func claim(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, &temporaryError{fmt.Errorf("target: another node is running on %s: stop it or choose another file", path)}
	}
	return f, nil
}

// Close closes the database, then gives it up.
func (c *claimed) Close() error { return errors.Join(c.Target.Close(), c.lock.Close()) }

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
