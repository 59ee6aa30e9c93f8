package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"xmq/nodeclient/driver/internal/subprocess"
)

// packaged is where the packages of distributions keep the programs of each major version; %s is the version.
var packaged = []string{"/usr/lib/postgresql/%s/bin", "/usr/pgsql-%s/bin", "/usr/libexec/postgresql%s"}

// major is the server's major version: "15".
func major(c *pgconn.PgConn) string {
	v := c.ParameterStatus("server_version")
	if end := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		return v[:end]
	}
	return v
}

// findProgram finds pg_dump or pg_restore of a server's major version: in PATH, then where packages keep it.
func findProgram(ctx context.Context, name, version string) (string, error) {
	var candidates []string
	if p, err := exec.LookPath(name); err == nil {
		candidates = append(candidates, p)
	}
	for _, dir := range packaged {
		candidates = append(candidates, filepath.Join(fmt.Sprintf(dir, version), name))
	}
	for _, p := range candidates {
		out, err := exec.CommandContext(ctx, p, "--version").Output()
		if fields := strings.Fields(string(out)); err == nil && len(fields) > 2 &&
			strings.HasPrefix(fields[2]+".", version+".") {
			return p, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	return "", fmt.Errorf("there is no %s %s, neither in PATH nor in %s: install the client programs of PostgreSQL %s "+
		"beside the node (Debian: postgresql-client-%s)",
		name, version, fmt.Sprintf(packaged[0], version), version, version)
}

// program prepares a client program that connects to database of the target's server; stderr keeps its last words.
// The password goes by the environment, which only this user can read.
func (t *Database) program(ctx context.Context, path, database string, args ...string) (cmd *exec.Cmd,
	stderr *subprocess.Tail) {
	cmd = exec.CommandContext(ctx, path, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	cmd.Env = append(cmd.Env, "LC_MESSAGES=C", "PGHOST="+t.cfg.Host, "PGPORT="+strconv.Itoa(int(t.cfg.Port)), "PGUSER="+
		t.cfg.User,
		"PGDATABASE="+database, "PGPASSWORD="+t.password(), "PGCLIENTENCODING=UTF8", "PGAPPNAME=xmq",
		"PGCONNECT_TIMEOUT="+strconv.Itoa(int(t.cfg.ConnectTimeout/time.Second)))
	cmd.Env = append(cmd.Env, t.tls...)
	cmd.WaitDelay = 2 * time.Second
	stderr = &subprocess.Tail{}
	cmd.Stderr = stderr
	return cmd, stderr
}
