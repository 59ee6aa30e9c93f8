package postgres

import (
	"context"
	"fmt"
	"strings"
)

// template is the database that the fresh one is made from: template0, unless the snapshot has extensions that only an
// administrator may make. Then it is template1, or the live database itself, whichever has them and nothing else that a
// user can make: that would come to stand beside the snapshot's data. The error says what is missing, or in the way,
// before anything is loaded.
func (t *Database) template(ctx context.Context, extensions []string) (string, error) {
	if len(extensions) == 0 {
		return "template0", nil
	}
	wanted, err := t.notMine(ctx, extensions)
	if err != nil || len(wanted) == 0 {
		return "template0", err
	}
	full := ""
	for _, name := range []string{"template1", t.cfg.Database} {
		has, empty, err := t.serves(ctx, name, wanted)
		if err != nil {
			return "", err
		}
		if !has {
			continue
		}
		if !empty && name == "template1" {
			full = "; template1 has it, but holds other things too, which would come into the copy: move them away"
		}
		if !empty {
			continue
		}
		if name == t.cfg.Database {
			c, err := t.conn(ctx)
			if err != nil {
				return "", err
			}
			if err := execute(ctx, c, "DROP TABLE IF EXISTS public.xmq_position"); err != nil {
				return "", err
			}
			t.leave()
		}
		return name, nil
	}
	return "", fmt.Errorf("the snapshot has the extension %s, which only an administrator may make: let one "+
		"run CREATE EXTENSION %s in template1 of this server, or, while it "+
		"is empty, in the database %s%s", strings.Join(wanted, ", "), quoteName(wanted[0]), t.cfg.Database, full)
}

// notMine is those of the extensions that this role may not make itself. Its error names one that the server has not.
func (t *Database) notMine(ctx context.Context, extensions []string) (wanted []string, err error) {
	c, err := t.conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range extensions {
		rows, err := query(ctx, c, "SELECT bool_or(trusted OR NOT superuser) OR (SELECT rolsuper FROM "+
			"pg_catalog.pg_roles WHERE rolname = current_user) "+
			"FROM pg_catalog.pg_available_extension_versions WHERE name = $1", name)
		switch {
		case err != nil:
			return nil, err
		case rows[0][0] == "":
			return nil, fmt.Errorf("the snapshot has the extension %s, which is not installed on this server: "+
				"install its package there", name)
		case rows[0][0] != "t":
			wanted = append(wanted, name)
		}
	}
	return wanted, nil
}

// serves tells whether a database has all of the extensions, and nothing else.
func (t *Database) serves(ctx context.Context, database string, extensions []string) (has, empty bool, err error) {
	c, err := t.connect(ctx, database)
	if err != nil {
		return false, false, err
	}
	defer closeConn(c)
	for _, name := range extensions {
		rows, err := query(ctx, c, "SELECT FROM pg_catalog.pg_extension WHERE extname = $1", name)
		if err != nil || len(rows) == 0 {
			return false, false, err
		}
	}
	rows, err := query(ctx, c, things)
	return true, err == nil && rows[0][0] == "f", err
}

// leave closes this node's own connections to the live database.
func (t *Database) leave() {
	if t.pg != nil {
		closeConn(t.pg)
		t.remains = remains{} // the next one may be of another database
	}
	if c := t.spare.take(); c != nil {
		closeConn(c)
	}
}
