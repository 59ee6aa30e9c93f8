package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/broker/event"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/internal/freespace"
	"xmq/nodeclient/driver/internal/snapstream"
	"xmq/nodeclient/driver/internal/spool"
	"xmq/nodeclient/driver/internal/subprocess"
)

// maxName is how many bytes PostgreSQL keeps of a name.
const maxName = 63

// switchTries is how often sessions of others are ended before a switch gives up; the server waits 5 s each time.
const switchTries = 3

func restoreName(database string) string { return database + "_xmq_restore" }
func oldName(database string) string     { return database + "_xmq_old" }

// quoteName quotes an identifier.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// restored is a verified database beside the live one.
type restored struct {
	db   *Database
	left []string // what it had to leave out, in sentences
}

// LeftOut implements nodeclient.LeftOut.
func (r *restored) LeftOut() string { return strings.Join(r.left, "; ") }

// Loads reports whether format is the one this driver writes, or its earlier one.
func (t *Database) Loads(format string) bool { return format == Format || format == firstFormat }

// CheckSpace implements nodeclient.Database. The size of a database on its server says about how much its copy takes.
func (t *Database) CheckSpace(ctx context.Context, size int64) error {
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	dir, err := dataFolder(ctx, c)
	if err != nil {
		return err
	}
	if err := freespace.ForServer(t.cfg.Host, dir, size); err != nil {
		return err
	}
	return freespace.ForSpool(size)
}

// dataFolder is where the server keeps its data; empty when the role may not know.
func dataFolder(ctx context.Context, c *pgconn.PgConn) (dir string, err error) {
	rows, err := query(ctx, c, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'")
	if err != nil {
		return "", classify(fmt.Errorf("postgres: ask where the data lies: %w", err))
	}
	if len(rows) == 0 {
		return "", nil
	}
	return rows[0][0], nil
}

// Space implements nodeclient.Placed, of the disk of a server on this machine.
func (t *Database) Space() (free, total uint64, err error) { return t.folder.Space() }

// Restore implements nodeclient.Database. Nothing of the snapshot reaches the server before all of it has come and
// each entry of the archive was judged. Then pg_restore loads it into DB_xmq_restore, the sequences are set and the
// position is compared. A snapshot of a database that had no position yet is accepted for the start of a log and
// given that position.
func (t *Database) Restore(ctx context.Context, want event.Position, topics event.Topics,
	r io.Reader) (nodeclient.Restored, error) {
	left, err := t.restore(ctx, want, topics, r)
	if err == nil {
		loaded := &restored{db: t}
		if left != "" {
			loaded.left = []string{left}
		}
		return loaded, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = nodeclient.Transient(fmt.Errorf("%w: %w", cause, err))
	}
	if code(err) != "" {
		err = classify(err)
	}
	if nodeclient.IsFatal(err) { // the snapshot's state, not that of the live database
		err = fmt.Errorf("%v: %w", err, event.ErrDamaged)
	}
	return nil, errors.Join(fmt.Errorf("postgres: restore %d: %w", want.Seq, err), t.drop(restoreName(t.cfg.Database)))
}

func (t *Database) restore(ctx context.Context, want event.Position, topics event.Topics, r io.Reader) (left string,
	err error) {
	whole, err := spool.Take(r)
	if err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	defer func() { _ = whole.Close() }() // it has no name, and nothing is lost with it
	var p preface
	var all contents
	err = whole.Read(func(r io.Reader) error {
		archive, h, err := stream.NewReader(r)
		if err != nil {
			return fmt.Errorf("read the header: %w", err)
		}
		if h.Pos != want && !(h.Pos.Zero() && want == event.Start(want.Log) && !want.Zero()) {
			return fmt.Errorf("the snapshot holds position %s, expected was %s", h.Pos, want)
		}
		if p, err = parsePreface(h); err != nil {
			return err
		}
		var judged error
		all, judged = checkArchive(archive)
		if _, err := io.Copy(io.Discard, archive); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if judged != nil {
			return fmt.Errorf("%w: %w", judged, event.ErrDamaged)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	load := func(path string) error {
		restorer, made, err := t.create(ctx, p, all.extensions)
		if err != nil {
			return err
		}
		return whole.Read(func(r io.Reader) error {
			archive, h, err := stream.NewReader(r)
			if err != nil {
				return err
			}
			if err := t.load(ctx, restorer, archive, edited(archive, all.edits(path, made))); err != nil {
				return err
			}
			ofOthers(all.rights, p.Role)
			left, err = t.verify(ctx, want, topics, h, p, all)
			return err
		})
	}
	err = load("")
	if err == nil || ctx.Err() != nil || all.searchPath.sql == "" || !strings.Contains(err.Error(), "does not exist") {
		return left, err
	}
	// A function in a check, a generated column or an index names something without its schema. Loading it so is tried
	// second, since along that path a name may also mean something else than it did.
	if p.Path == "" {
		if p.Path, err = t.ownPath(ctx); err != nil {
			return "", err
		}
	}
	err = load(p.Path)
	return left, err
}

// ownPath is the search_path of this node.
func (t *Database) ownPath(ctx context.Context) (string, error) {
	c, err := t.connect(ctx, t.cfg.Database)
	if err != nil {
		return "", err
	}
	defer closeConn(c)
	rows, err := query(ctx, c, "SHOW search_path")
	if err != nil {
		return "", err
	}
	return rows[0][0], nil
}

// create makes the fresh database, with encoding and locale of the snapshot's (in the first format: of the live one),
// and finds pg_restore. made says that it has extensions that an administrator has made.
func (t *Database) create(ctx context.Context, p preface, extensions []string) (restorer string, made bool, err error) {
	template, err := t.template(ctx, extensions)
	if err != nil {
		return "", false, err
	}
	c, err := t.connect(ctx, t.opts.Maintenance)
	if err != nil {
		return "", false, err
	}
	defer closeConn(c)
	if restorer, err = findProgram(ctx, "pg_restore", major(c)); err != nil {
		return "", false, err
	}
	fresh := quoteName(restoreName(t.cfg.Database))
	if err := execute(ctx, c, "DROP DATABASE IF EXISTS "+fresh+" WITH (FORCE)"); err != nil {
		return "", false, fmt.Errorf("drop the database of an earlier restore: %w", err)
	}
	options := p.options()
	if options == "" {
		rows, err := query(ctx, c, strings.Replace(locales, "current_database()", "$1", 1), t.cfg.Database)
		if err != nil {
			return "", false, err
		}
		if len(rows) != 1 {
			return "", false, nodeclient.Transient(fmt.Errorf("the database %q is not there", t.cfg.Database))
		}
		row := rows[0]
		options = preface{Encoding: row[0], Collate: row[1], Ctype: row[2], Provider: row[3], Locale: row[4],
			Rules: row[5]}.options()
	}
	err = execute(ctx, c, "CREATE DATABASE "+fresh+" TEMPLATE "+quoteName(template)+options)
	if code(err) == objectInUse && template == t.cfg.Database { // it is empty: nobody loses anything
		_, err = query(ctx, c, "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE "+
			"datname = $1 AND backend_type = 'client backend'", template)
		if err == nil {
			err = execute(ctx, c, "CREATE DATABASE "+fresh+" TEMPLATE "+quoteName(template)+options)
		}
	}
	if code(err) == insufficient {
		return "", false, fmt.Errorf("a restore loads into a fresh database, and the role %q may not create "+
			"one: ALTER ROLE %s CREATEDB: %w", t.cfg.User, quoteName(t.cfg.User), err)
	}
	if err != nil {
		return "", false, fmt.Errorf("create the database for the restore, with the encoding and locale of the "+
			"snapshot's (%s): %w", strings.TrimSpace(options), err)
	}
	return restorer, template != "template0", nil
}

// load feeds the archive to pg_restore, as from yields it.
func (t *Database) load(ctx context.Context, restorer string, archive *snapstream.Reader, from io.Reader) error {
	name := restoreName(t.cfg.Database)
	conninfo := "dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(name) + "'"
	cmd, stderr := t.program(ctx, restorer, name, "--exit-on-error", "--no-owner", "--no-privileges", "--no-password",
		"--dbname="+conninfo)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, write := io.CopyBuffer(struct{ io.Writer }{in}, from, make([]byte, snapstream.MaxFrame))
	if archive.Failed() != nil {
		_ = cmd.Process.Kill() // the archive will not be whole
	}
	_ = in.Close() // its reader may have ended; the exit code tells
	exit := subprocess.Ended("pg_restore", stderr, cmd.Wait())
	switch {
	case archive.Failed() != nil:
		return fmt.Errorf("read the snapshot: %w", archive.Failed())
	case exit != nil:
		return exit
	case write != nil: // it needed no more of the archive
		if _, err := io.Copy(io.Discard, archive); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
	}
	return nil
}

// verify sets the sequences of the fresh database, compares its position, stores the topics and gives the rights. left
// is what of them it had to leave out.
func (t *Database) verify(ctx context.Context, want event.Position, topics event.Topics, h snapstream.Head, p preface,
	all contents) (left string, err error) {
	c, err := t.connect(ctx, restoreName(t.cfg.Database))
	if err != nil {
		return "", err
	}
	defer closeConn(c)
	if err := p.set(ctx, c); err != nil {
		return "", err
	}
	place, err := begin(ctx, c, "", "true")
	if err != nil {
		return "", err
	}
	stored := place.pos
	if stored.Zero() {
		if err := replacePosition(ctx, c, want); err != nil {
			return "", err
		}
		stored = want
	}
	if stored != want || h.Pos.Zero() && want.Seq != 0 {
		return "", fmt.Errorf("the restored data stands at %s, expected was %s: %w", stored, want, event.ErrDamaged)
	}
	if err := keepTopics(ctx, c, topics); err != nil {
		return "", fmt.Errorf("store the topics: %w", err)
	}
	if p.Path != "" { // the source's increments go on as they were
		_, err = query(ctx, c, "UPDATE public.xmq_position SET path = coalesce(path, $1)", p.Path)
	}
	if err != nil {
		return "", fmt.Errorf("store the search_path: %w", err)
	}
	// Who used a sequence beside the source's increments does not use it here.
	_, err = query(ctx, c, "UPDATE public.xmq_position SET sequences = NULL, moved = NULL")
	if err == nil {
		_, _, err = keepAll(ctx, c)
	}
	if err != nil {
		return "", fmt.Errorf("store the values of the sequences: %w", err)
	}
	if left, err = give(ctx, c, all); err != nil {
		return "", fmt.Errorf("give the rights: %w", err)
	}
	return left, execute(ctx, c, "COMMIT")
}

// Switch implements nodeclient.Restored. Sessions of others on the database are ended; two renames in one
// transaction make the fresh database the live one. A commit whose answer was lost is looked for. Transient:
// others came back faster than they could be ended, or the server is away.
func (r *restored) Switch(ctx context.Context) error {
	t := r.db
	if err := t.holds(ctx); err != nil {
		return err
	}
	t.leave() // they would hold the old database
	var err error
	var own map[string]bool
	for range switchTries {
		if own, err = t.rename(ctx); err == nil || code(err) != objectInUse {
			break
		}
	}
	if err != nil && connFailed(err) {
		if names, lookErr := t.leftovers(ctx); lookErr == nil && !names[restoreName(t.cfg.Database)] {
			err = nil // it was committed
		}
	}
	if code(err) == insufficient {
		return fmt.Errorf("postgres: switch to the restored database: the role %q must own the database, have CREATEDB, "+
			"and may end the sessions on it: %w", t.cfg.User, err)
	}
	if err != nil {
		return nodeclient.Transient(fmt.Errorf("postgres: switch to the restored database: %w", err))
	}
	if left := leftOwn(t.cfg.Database, own); left != "" {
		r.left = append(r.left, left)
	}
	_ = t.drop(oldName(t.cfg.Database)) // the next Open does it
	return nil
}

// rename is the point of no return. left is what of the live database itself could not be kept.
func (t *Database) rename(ctx context.Context) (left map[string]bool, err error) {
	c, err := t.connect(ctx, t.opts.Maintenance)
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	live, fresh, old := t.cfg.Database, restoreName(t.cfg.Database), oldName(t.cfg.Database)
	if err := execute(ctx, c, "DROP DATABASE IF EXISTS "+quoteName(old)+" WITH (FORCE)"); err != nil {
		return nil, err
	}
	_, err = query(ctx, c, "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname IN ($1, "+
		"$2) AND backend_type = 'client backend'", live, fresh)
	if err != nil {
		return nil, err
	}
	if err := execute(ctx, c, "BEGIN"); err != nil {
		return nil, err
	}
	if left, err = keepOwn(ctx, c, live, fresh); err != nil {
		return nil, err
	}
	return left, execute(ctx, c, "ALTER DATABASE "+quoteName(live)+" RENAME TO "+quoteName(old)+"; ALTER "+
		"DATABASE "+quoteName(fresh)+" RENAME TO "+quoteName(live)+"; COMMIT")
}

// Discard implements nodeclient.Restored.
func (r *restored) Discard() error { return r.db.drop(restoreName(r.db.cfg.Database)) }

// drop removes a database that may be absent, with a context of its own: it cleans up after errors too.
func (t *Database) drop(database string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*settleTime)
	defer cancel()
	c, err := t.connect(ctx, t.opts.Maintenance)
	if err != nil {
		return err
	}
	defer closeConn(c)
	if err := execute(ctx, c, "DROP DATABASE IF EXISTS "+quoteName(database)+" WITH (FORCE)"); err != nil {
		return nodeclient.Transient(fmt.Errorf("postgres: drop the database %q: %w", database, err))
	}
	return nil
}

// leftovers tells which databases of a restore there are.
func (t *Database) leftovers(ctx context.Context) (map[string]bool, error) {
	c, err := t.connect(ctx, t.cfg.Database)
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	return databases(ctx, c, restoreName(t.cfg.Database), oldName(t.cfg.Database))
}

func databases(ctx context.Context, c *pgconn.PgConn, a, b string) (map[string]bool, error) {
	rows, err := query(ctx, c, "SELECT datname FROM pg_catalog.pg_database WHERE datname IN ($1, $2)", a, b)
	names := make(map[string]bool)
	for _, row := range rows {
		names[row[0]] = true
	}
	return names, err
}

// tidy drops what an interrupted restore or switch left beside the live database.
func (t *Database) tidy(ctx context.Context) error {
	names, err := databases(ctx, t.pg, restoreName(t.cfg.Database), oldName(t.cfg.Database))
	if err != nil {
		return classify(fmt.Errorf("postgres: look for the rest of a restore: %w", err))
	}
	for name := range names {
		err = errors.Join(err, t.drop(name))
	}
	return err
}
