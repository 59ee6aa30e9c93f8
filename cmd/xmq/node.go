package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"xmq/broker/bus"
	"xmq/broker/event"
	"xmq/broker/secret"
	"xmq/configs"
	"xmq/dumpflow"
	"xmq/nodeclient"
	"xmq/nodeclient/driver"
)

func nodeCommand() *cli.Command {
	defaults := configs.DefaultNode()
	return &cli.Command{
		Name: "node", Usage: "run a node beside a database",
		Description: "The first node: xmq node --id master --target sqlite:master.db\n" +
			"Every other one joins by DUMP: xmq node --id node1 --from master --target sqlite:node1.db",
		Flags: append(knobFlags(&defaults), readyFlag()),
		Action: func(c *cli.Context) error {
			signals := hangUps(c)
			cfg := configs.DefaultNode()
			if err := loadKnobs(c, &cfg); err != nil {
				return err
			}
			log, level, err := configs.LeveledLogger(c.App.ErrWriter, cfg.LogLevel)
			if err != nil {
				return err
			}
			running := &nodeProcess{cfg: cfg, log: log}
			again := &reloading[configs.Node]{now: cfg, fresh: configs.DefaultNode, level: level, log: log,
				takes: nodeclient.Reloads, apply: running.reload}
			again.serve(c, signals)
			if err := notReady(c); err != nil {
				return err
			}
			return running.run(c.Context, func() (func(), error) { return atReady(c, ready{ID: cfg.ID}) })
		},
	}
}

// nodeProcess is the life of a node process.
type nodeProcess struct {
	cfg configs.Node // of the start
	log *slog.Logger

	mu    sync.Mutex
	agent *nodeclient.Agent // nil: not yet
	next  configs.Node      // what was reloaded before there was an agent; its ID is empty where nothing was
}

// reload takes over from cfg what nodeclient.Reloads names.
func (p *nodeProcess) reload(cfg configs.Node) error {
	o, err := cfg.Options(p.log)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = cfg
	if p.agent != nil {
		return p.agent.Reload(o)
	}
	_, err = o.WithDefaults()
	return err
}

// newAgent makes the agent with what was reloaded meanwhile.
func (p *nodeProcess) newAgent(conn bus.Conn, db nodeclient.Database, o nodeclient.Options) (*nodeclient.Agent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, err := nodeclient.New(conn, db, o)
	if err == nil && p.next.ID != "" {
		if o, err = p.next.Options(p.log); err == nil {
			err = a.Reload(o)
		}
	}
	p.agent = a
	return a, err
}

// runNode is the life of a node process that nobody reloads.
func runNode(ctx context.Context, cfg configs.Node, log *slog.Logger, following func() (func(), error)) error {
	return (&nodeProcess{cfg: cfg, log: log}).run(ctx, following)
}

// run is the whole life. following is called when increments are on their way to its database; what it returns, when
// it ends. However it ends, the last line of the log says why; but one that was called wrongly has no log, only the one
// sentence of all commands.
func (p *nodeProcess) run(ctx context.Context, following func() (func(), error)) error {
	err := p.live(ctx, following)
	switch {
	case configs.IsConfig(err):
	case err != nil:
		p.log.Error("node ends", "event", "stopped", "client", p.cfg.ID, "cause", secret.Text(err.Error()))
	default:
		p.log.Info("node stops", "event", "stopped", "client", p.cfg.ID, "cause", "it was told to")
	}
	return err
}

func (p *nodeProcess) live(ctx context.Context, following func() (func(), error)) (err error) {
	cfg, log := p.cfg, p.log
	o, err := cfg.Options(log)
	if err != nil {
		return err
	}
	if err := event.CheckID(o.ID); err != nil {
		return fmt.Errorf("%w: %w", configs.ErrConfig, err)
	}
	start, err := os.Getwd()
	if err != nil {
		return &ioError{fmt.Errorf("relative paths begin in the folder in which the node was started, and it cannot be "+
			"found: %w", err)}
	}
	paths := driver.PathsOf(start, cfg.Data, log.With("client", cfg.ID))
	var commands string // where those of exec: run
	cfg.Target, commands = paths.Target(cfg.Target)
	cfg.TargetPasswordFile = paths.File("target_password_file", cfg.TargetPasswordFile)
	cfg.Restore = paths.File("restore", cfg.Restore)
	conn, err := bus.Dial(cfg.Broker, o.ID)
	if err != nil {
		return fmt.Errorf("%w: broker: %w", configs.ErrConfig, err)
	}
	defer conn.Close()
	o.Driver, o.Address = driver.Kind(cfg.Target), addressOf(cfg.Target)
	db, err := openTarget(ctx, cfg, commands, conn, o)
	if err != nil && ctx.Err() != nil {
		return nil // told to end while it waited
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	o.Driver, o.Stateless, o.Address = db.Driver, db.Stateless, addressOf(cfg.Target)
	a, err := p.newAgent(conn, db.Database, o)
	if err != nil {
		return fmt.Errorf("%w: %w", configs.ErrConfig, err)
	}
	if cfg.Restore != "" {
		if err := loadBackup(ctx, a, db.Database, cfg.Restore, log); err != nil {
			return err
		}
	}
	if !conn.Up() {
		log.Warn("the broker does not answer yet: trying until it does", "client", o.ID, "broker", secret.URL(cfg.Broker))
	}
	if d, is := db.Database.(interface{ Durability() string }); is && d.Durability() != "" {
		log.Warn("what this database acknowledges may be gone after a crash of its server", "client", o.ID, "why",
			d.Durability())
	}
	if p, is := db.Database.(interface{ Powers() string }); is && p.Powers() != "" {
		log.Warn("the role of this node may do too much", "client", o.ID, "why", p.Powers())
	}
	log.Info("node starts", "event", "started", "client", o.ID, "broker", secret.URL(cfg.Broker), "target", db.Driver)
	defer whenFollowing(a, following, log)()
	return ended(a.Run(ctx))
}

// whenFollowing calls following as soon as the agent follows. What it returns ends that, and calls what following has
// returned.
func whenFollowing(a *nodeclient.Agent, following func() (func(), error), log *slog.Logger) (end func()) {
	over, done := make(chan struct{}), make(chan struct{})
	remove := func() {}
	go func() {
		defer close(done)
		for now, other := a.Next(); now.Phase != "following"; now, other = a.Next() {
			select {
			case <-over:
				return
			case <-other:
			}
		}
		r, err := following()
		if err != nil {
			log.Error("the ready file cannot be written", "err", err)
			return
		}
		remove = r
	}()
	return func() {
		close(over)
		<-done
		remove()
	}
}

// addressOf is where a target is, as people may read it: of a command its name alone, whose arguments may hold
// anything.
func addressOf(target string) string {
	if command, is := strings.CutPrefix(target, "exec:"); is {
		name, _, _ := strings.Cut(strings.TrimSpace(command), " ")
		return "exec:" + name
	}
	return secret.URL(target)
}

// ended gives the end of a node the class that its cause deserves, so that no supervisor starts it again and again: a
// copy that is lost or belongs elsewhere needs a person first.
func ended(err error) error {
	switch {
	case errors.Is(err, nodeclient.ErrTopics):
		return fmt.Errorf("%w: %w", configs.ErrConfig, err)
	case nodeclient.IsFatal(err), errors.Is(err, nodeclient.ErrNeedsDump):
		return &damageError{err}
	case errors.Is(err, nodeclient.ErrTaken), errors.Is(err, nodeclient.ErrGone):
		return &temporaryError{err}
	}
	return err
}

// loadBackup loads a backup file into a database that has no position yet; later starts pass over it.
func loadBackup(ctx context.Context, a *nodeclient.Agent, db nodeclient.Database, path string, log *slog.Logger) error {
	pos, err := db.Position(ctx)
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
		return ended(err)
	}
	log.Info("backup loaded", "file", path, "seq", f.Manifest().Pos.Seq)
	return nil
}

// emptied is how a node goes on whose place holds no database that can be opened: also where no other node is left.
const emptied = "put a whole copy in its place, or move it away and start the node again: an empty place takes " +
	"a DUMP (--from NODE), a backup (--restore FILE), or the log from increment 1, where that is kept"

// openTarget opens the database of the configuration, whose paths are absolute and whose commands run in dir. One
// that is away, or cannot say its position now, is waited for, and the broker told; another node that uses it is a
// mistake that a person ends.
func openTarget(ctx context.Context, cfg configs.Node, dir string, conn bus.Conn,
	o nodeclient.Options) (t driver.Opened, err error) {
	o, err = o.WithDefaults()
	if err != nil {
		return t, fmt.Errorf("%w: %w", configs.ErrConfig, err)
	}
	var taken error
	err = nodeclient.Away(ctx, conn, o, func(ctx context.Context) (err error) {
		t, err = driver.Open(ctx, cfg.ID, cfg.Target, cfg.TargetPasswordFile, dir)
		if err == nil {
			if _, e := t.Position(ctx); nodeclient.IsTransient(e) {
				err = errors.Join(fmt.Errorf("read the stored position: %w", e), t.Close())
			}
		}
		if errors.Is(err, nodeclient.ErrTaken) {
			taken = err
			return nil
		}
		return err
	})
	if taken != nil {
		err = taken
	}
	switch {
	case nodeclient.IsTransient(err):
		err = &temporaryError{fmt.Errorf("target: %w", err)}
	case nodeclient.IsFatal(err):
		err = fmt.Errorf("%w: target: %w; %s", configs.ErrConfig, err, emptied)
	case err != nil:
		err = fmt.Errorf("%w: target: %w", configs.ErrConfig, err)
	}
	return t, err
}
