package sqlite

import (
	"bufio"
	"fmt"
	"io"
	"os"
	shell "os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
)

// While another process writes to the file, increments wait, and the error names that process.
func TestWhoHoldsTheLockOfTheFileIsTold(t *testing.T) {
	if path := os.Getenv("XMQ_TEST_LOCKS"); path != "" { // that process: it holds the lock until its standard input ends
		db, err := openDB(path)
		require.NoError(t, err)
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		_, err = c.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		require.NoError(t, err)
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	path := filepath.Join(t.TempDir(), "x.db")
	target, err := Open(t.Context(), path, Options{BusyTimeout: 10 * time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	log := drivertest.NewLog(7)
	drivertest.Feed(t, target, log, "CREATE TABLE c (v)")
	blocker := func() string {
		who, err := target.Blocker(t.Context())
		require.NoError(t, err)
		return who
	}
	require.Empty(t, blocker())
	other := shell.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	other.Env = append(os.Environ(), "XMQ_TEST_LOCKS="+path)
	in, err := other.StdinPipe()
	require.NoError(t, err)
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)
	before, items := drivertest.At(t, target, log), log.Scripts("INSERT INTO c VALUES (1)")
	_, err = target.Apply(t.Context(), before, items)
	require.True(t, nodeclient.IsTransient(err), err)
	who := fmt.Sprintf("its lock is held by PID %d (sqlite.test)", other.Process.Pid)
	require.ErrorContains(t, err, who)
	require.Equal(t, who, blocker())
	require.NoError(t, in.Close())
	require.NoError(t, other.Wait())
	require.Empty(t, blocker())
	_, err = target.Apply(t.Context(), before, items)
	require.NoError(t, err)
	require.Equal(t, before.Seq+1, target.Durable())
}
