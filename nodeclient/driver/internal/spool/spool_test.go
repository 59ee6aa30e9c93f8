package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestAStreamIsReadAgainAsItCame(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	want := strings.Repeat("rows and rows ", 1<<16)
	f, err := Take(iotest.HalfReader(strings.NewReader(want)))
	require.NoError(t, err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "a process that dies leaves nothing behind")
	for range 2 {
		var got bytes.Buffer
		require.NoError(t, f.Read(func(r io.Reader) error {
			_, err := io.CopyN(&got, r, 100) // one that is not read to its end is begun again
			require.NoError(t, err)
			return nil
		}))
		require.Equal(t, want[:100], got.String())
	}
	require.NoError(t, f.Read(func(r io.Reader) error {
		got, err := io.ReadAll(r)
		require.Equal(t, want, string(got))
		return err
	}))
	require.NoError(t, f.Close())
}

func TestErrorsOfTheStreamAndOfTheDiskAreToldApart(t *testing.T) {
	cut := errors.New("cut")
	_, err := Take(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(cut)))
	require.ErrorIs(t, err, cut)
	require.NotContains(t, err.Error(), "TMPDIR")

	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	_, err = Take(strings.NewReader("x"))
	require.ErrorContains(t, err, "set TMPDIR")
}
