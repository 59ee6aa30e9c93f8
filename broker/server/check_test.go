package server

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/api"
)

// A log that is gone from beside a state store is missing increments, to the check as it is to the broker; an empty
// directory holds none.
func TestCheckMissesALogThatIsGone(t *testing.T) {
	cfg := quiet(t)
	r := still(t, cfg)
	r.put("a", "b", "c")
	require.NoError(t, r.watcher.Checkpoint())
	require.NoError(t, r.stop())
	c, err := CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.Equal(t, api.Checked{First: 1, Last: 3, Records: 3, Damaged: map[string]string{}, Checkpoint: 3}, c)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Data, logDir)))
	c, err = CheckOffline(t.Context(), cfg.Data, nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, c.Checkpoint)
	require.Contains(t, c.Missing, "the state store "+filepath.Join(cfg.Data, stateDir)+" knows of one")
	_, err = CheckOffline(t.Context(), t.TempDir(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
