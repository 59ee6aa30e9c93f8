package freespace

import (
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient"
)

func TestASnapshotThatDoesNotFitIsRefusedBeforeItComes(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, For(dir, 1<<20))
	require.NoError(t, For(dir, 0))
	err := For(dir, 1<<60)
	require.ErrorContains(t, err, "make room")
	require.True(t, nodeclient.IsTransient(err), "room can be made")
	require.Error(t, For(dir+"/nowhere", 1))
}

func TestOnlyServersOfThisMachineAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	for _, host := range []string{"127.0.0.1", "::1", "localhost", "/run/postgresql"} {
		require.Error(t, ForServer(host, dir, 1<<60), host)
		require.NoError(t, ForServer(host, dir, 1), host)
		require.NoError(t, ForServer(host, dir+"/nowhere", 1<<60), "not to be seen from here")
	}
	require.NoError(t, ForServer("db1.example", dir, 1<<60), "its disk is not ours")
	require.NoError(t, ForServer("127.0.0.1", "", 1<<60), "the server does not say where its data lies")
}

func TestTheFolderOfAServerElsewhereIsNotSeen(t *testing.T) {
	var f Folder
	for host, seen := range map[string]bool{"127.0.0.1": true, "/run/postgresql": true, "db1.example": false,
		"10.0.0.7": false} {
		f.Lies(host, t.TempDir())
		_, total, err := f.Space()
		require.Equal(t, seen, err == nil && total > 0, host)
	}
	f.Lies("127.0.0.1", "/nowhere")
	_, _, err := f.Space()
	require.Error(t, err)
	_, _, err = new(Folder).Space()
	require.Error(t, err)
}

func TestWhereASnapshotIsKeptIsLookedAt(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	require.NoError(t, ForSpool(1<<20))
	require.ErrorContains(t, ForSpool(1<<60), "make room")
	t.Setenv("TMPDIR", t.TempDir()+"/nowhere")
	require.ErrorContains(t, ForSpool(1), "nowhere")
}
