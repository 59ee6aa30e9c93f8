package server

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/disk"
	"xmq/increments"
	"xmq/statedb"
	"xmq/statedb/leveldb"
)

// A data directory of ours is closed to other users, and a line says so; one of somebody else is refused.
func TestTheDataDirectoryIsOursAlone(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, closeDir(dir, log))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.Contains(t, said.String(), "level=WARN")
	require.Contains(t, said.String(), "mode=0755")

	said.Reset()
	require.NoError(t, closeDir(dir, log))
	require.Empty(t, said.String(), "said once")

	foreign := "/" // of root
	if os.Geteuid() == 0 {
		foreign = dir
		require.NoError(t, os.Chown(dir, 65534, -1))
	}
	before, err := os.Stat(foreign)
	require.NoError(t, err)
	err = closeDir(foreign, log)
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "belongs to user")
	after, err := os.Stat(foreign)
	require.NoError(t, err)
	require.Equal(t, before.Mode(), after.Mode())
}

// What keeps a store from being opened is told once, with the place, and where to read what helps.
func TestAStoreThatDoesNotOpenIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		says string // %s: the data directory
	}{
		"a file instead of the log": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, logDir)))
			require.NoError(t, os.WriteFile(filepath.Join(dir, logDir), nil, 0o600))
		}, "open log: damage in %[1]s/log: a file lies where a directory of the broker belongs: move it away"},
		"a file instead of the state store": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, stateDir)))
			require.NoError(t, os.WriteFile(filepath.Join(dir, stateDir), nil, 0o600))
		}, "open state store: damage in %[1]s/state: a file lies where a directory of the broker belongs: move it away"},
		"a foreign file in the log": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, logDir, "diary"), nil, 0o600))
		}, `open log: damage in %[1]s/log/diary: "diary" is not the name of a segment: two numbers of 20 digits, the first ` +
			`not above the last, joined by a hyphen; see what helps with xmq log check --data %[1]s`},
		"a state store without its name": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, stateDir, "clients", "CURRENT")))
		}, "open state store: damage in %[1]s/state/clients/CURRENT: it names no manifest: file does not exist; see what " +
			"helps with xmq log check --data %[1]s"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			_, err := Init(cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			c.harm(t, cfg.Data)
			_, err = Open(cfg, slog.New(slog.DiscardHandler))
			require.EqualError(t, err, fmt.Sprintf(c.says, cfg.Data))
			require.True(t, IsDamage(err), "nobody finds it otherwise at the next start")
		})
	}
}

// A directory with anything in it that is not the broker's is refused as it is: its mode is its owner's business.
func TestAForeignDirectoryKeepsItsMode(t *testing.T) {
	cfg := testConfig(t)
	cfg.Data = t.TempDir()
	require.NoError(t, os.WriteFile(cfg.Data+"/diary.txt", nil, 0o644))
	require.NoError(t, os.Chmod(cfg.Data, 0o755))
	_, err := Open(cfg, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "not the broker's")
	info, err := os.Stat(cfg.Data)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
}

// A link to a disk that is not mounted is no place for a new log.
func TestALinkToADiskThatIsNotMountedIsNoEmptyDirectory(t *testing.T) {
	link := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "disk", "data"), link))
	_, err := prepareDir(link, true)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "is the disk mounted?")
}

// What others put into a directory while it was open to them is not taken for ours, and not written through.
func TestWhatOthersPutIntoTheDataDirectoryIsRefused(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, write := range map[string]func(dir string) error{
		"LOCK":    func(dir string) error { _, err := disk.LockDir(dir); return err },
		"ballast": disk.AddBallast,
	} {
		dir, theirs := t.TempDir(), filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.WriteFile(theirs, []byte("theirs"), 0o600))
		require.NoError(t, os.Symlink(theirs, filepath.Join(dir, name)))
		require.Error(t, write(dir), name)
		err := closeDir(dir, log)
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, name+" is no plain file")
		got, err := os.ReadFile(theirs)
		require.NoError(t, err)
		require.Equal(t, "theirs", string(got), name)
	}

	if os.Geteuid() == 0 { // others' files are made by root only
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, logDir), 0o700))
		require.NoError(t, closeDir(dir, log))
		require.NoError(t, os.Chown(filepath.Join(dir, logDir), 65534, -1))
		err := closeDir(dir, log)
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, "log belongs to user 65534")
	}
}

// A sealed segment that is damaged refuses the start, with the way on: an operator who says so sets it aside. The alert
// stands, what lies after it is served, input goes on; also when the last checkpoint lies in it.
func TestAStartGoesOnWithoutADamagedSegment(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxRecords = 10
	r := startBroker(t, cfg)
	for range 45 {
		r.put("text")
	}
	at, err := r.stores.log.Position(35)
	require.NoError(t, err)
	require.NoError(t, r.stop())
	files, err := filepath.Glob(filepath.Join(cfg.Data, logDir, "*-00000000000000000040", "*.l*"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if len(text) > 100 {
			text[len(text)/2] ^= 1
			require.NoError(t, os.WriteFile(f, text, 0o600))
		}
	}
	state, err := leveldb.Open(disk.NewStorage(disk.Options{}), disk.Dir(filepath.Join(cfg.Data, stateDir)),
		statedb.Options{})
	require.NoError(t, err)
	var b statedb.Batch
	b.Checkpoint(at)
	require.NoError(t, state.Write(&b))
	require.NoError(t, state.Close())
	_, err = Open(cfg, slog.New(slog.DiscardHandler))
	require.True(t, disk.IsDamage(err), err)
	require.ErrorContains(t, err, "start the broker with --set-aside")
	cfg.SetAside = true
	for range 2 {
		r = startBroker(t, cfg)
		soon(t, "it is told", func() bool {
			return slices.ContainsFunc(r.stores.state.Alerts(), func(a statedb.Alert) bool {
				return strings.HasPrefix(a.Key, "damage/") && a.Cleared == 0
			})
		})
		_, err = r.stores.log.Read(35, 1, 1)
		require.ErrorIs(t, err, increments.ErrQuarantined)
		require.NotZero(t, r.put("goes on")[0].Seq)
		require.NoError(t, r.stop())
	}
}
