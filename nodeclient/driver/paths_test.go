package driver

import (
	"bytes"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// folders are where a node is started, and what it has for --data, which lies relative to that.
func folders(t *testing.T) (p Paths, start, data string, warned func() string) {
	start = t.TempDir()
	data = filepath.Join(start, "made")
	require.NoError(t, os.Mkdir(data, 0o700))
	var b bytes.Buffer
	return PathsOf(start, "made", slog.New(slog.NewTextHandler(&b, nil))), start, data, func() string {
		defer b.Reset()
		return b.String()
	}
}

// opens opens and closes a target as a node does.
func opens(t *testing.T, p Paths, target string) {
	t.Helper()
	absolute, dir := p.Target(target)
	db, err := Open(t.Context(), "n1", absolute, "", dir)
	require.NoError(t, err, absolute)
	_, err = db.Position(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestRelativePathsLieWhereTheNodeWasStarted(t *testing.T) {
	for _, scheme := range []string{"sqlite", "kv", "file"} {
		t.Run(scheme, func(t *testing.T) {
			options := ""
			if scheme == "sqlite" {
				options = "?max_pages=1000"
			}
			p, start, data, warned := folders(t)
			opens(t, p, scheme+":copy"+options)
			require.FileExists(t, filepath.Join(start, "copy.lock"))
			require.NoFileExists(t, filepath.Join(data, "copy.lock"))
			require.Empty(t, warned())
			opens(t, p, scheme+":"+filepath.Join(data, "other")+options)
			require.Empty(t, warned(), "an absolute path is no question")

			opens(t, p, scheme+":other"+options) // as a unit file of an earlier build says
			require.NoFileExists(t, filepath.Join(start, "other.lock"))
			require.Contains(t, warned(), "write="+filepath.Join(data, "other"))
			require.NoError(t, os.RemoveAll(filepath.Join(data, "other")))
			opens(t, p, scheme+":other"+options) // killed while it exchanged two databases: no more than a lock has its name
			require.NoFileExists(t, filepath.Join(start, "other.lock"))
			require.Contains(t, warned(), "write="+filepath.Join(data, "other"))

			opens(t, p, scheme+":"+filepath.Join(data, "copy"))
			require.Empty(t, warned())
			target, _ := p.Target(scheme + ":copy" + options)
			require.Equal(t, scheme+":"+filepath.Join(start, "copy")+options, target)
			require.Contains(t, warned(), "is not used", "two of one name")

			same := PathsOf(start, ".", slog.New(slog.NewTextHandler(new(failing), nil)))
			target, _ = same.Target(scheme + ":copy")
			require.Equal(t, scheme+":"+filepath.Join(start, "copy"), target)
		})
	}
}

// failing is a log in which nothing may stand.
type failing struct{}

func (*failing) Write(p []byte) (int, error) { panic(string(p)) }

func TestWhatIsNoPathStaysAsItIs(t *testing.T) {
	p, start, _, warned := folders(t)
	for _, target := range []string{"", "sqlite", "what:made", "postgres://u@h/made", "redis://made",
		"webhook:http://h/made", "kv:http://u:secret@h/d",
		"exec:a?b=c", "exec:"} {
		got, dir := p.Target(target)
		require.Equal(t, target, got)
		require.Equal(t, start, dir)
	}
	require.Empty(t, p.File("restore", ""))
	require.Empty(t, warned())
}

func TestCommandsRunWhereTheNodeWasStarted(t *testing.T) {
	for command, old := range map[string]bool{
		"sh apply.sh":           true, // lies under --data alone
		"./apply.sh >> out":     true,
		"cat >> 'state/log'":    true,
		"apply.sh":              false, // of PATH
		"cat >> new":            false,
		"sh ./here.sh apply.sh": false, // in both
		"cat . ..":              false,
	} {
		p, start, data, warned := folders(t)
		for _, name := range []string{filepath.Join(data, "apply.sh"), filepath.Join(data, "state/log"),
			filepath.Join(start, "here.sh")} {
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
			require.NoError(t, os.WriteFile(name, nil, 0o700))
		}
		for _, target := range []string{"exec:" + url.PathEscape(command), "exec:true?position=" + url.QueryEscape(command)} {
			got, dir := p.Target(target)
			require.Equal(t, target, got)
			if !old {
				require.Equal(t, start, dir, target)
				require.Empty(t, warned(), target)
				continue
			}
			require.Equal(t, data, dir, target)
			require.Equal(t, 1, strings.Count(warned(), "write="+data), target)
		}
	}
}

// The commands are run, and find what they name.
func TestCommandsFindWhatTheyName(t *testing.T) {
	p, start, data, warned := folders(t)
	target := "exec:true?position=" + url.QueryEscape("touch seen; cat position")
	require.NoError(t, os.WriteFile(filepath.Join(data, "position"), nil, 0o600))
	opens(t, p, target)
	require.FileExists(t, filepath.Join(data, "seen"))
	require.NotEmpty(t, warned())
	require.NoError(t, os.WriteFile(filepath.Join(start, "position"), nil, 0o600))
	opens(t, p, target)
	require.FileExists(t, filepath.Join(start, "seen"))
	require.Empty(t, warned())
}
