package snapstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
)

var format = Format{Name: "test/1", Magic: "XMQTESTS", Version: 1}

// Another driver's stream, or one of a later version, is refused by name before any data.
func TestAStreamOfAnotherFormatIsRefused(t *testing.T) {
	var b bytes.Buffer
	w, err := format.NewWriter(&b, Head{})
	require.NoError(t, err)
	require.NoError(t, w.End())
	_, _, err = Format{Name: "other/1", Magic: "XMQOTHER", Version: 1}.NewReader(bytes.NewReader(b.Bytes()))
	require.ErrorIs(t, err, event.ErrDamaged)
	require.ErrorContains(t, err, "not that of other/1")
	_, _, err = Format{Name: "test/2", Magic: "XMQTESTS", Version: 2}.NewReader(bytes.NewReader(b.Bytes()))
	require.ErrorIs(t, err, event.ErrDamaged)
	require.ErrorContains(t, err, "version 1 of test/2 is not known")
	_, h, err := Format{Name: "test/3", Magic: "XMQTESTS", Version: 3, Oldest: 1}.NewReader(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.Equal(t, uint32(1), h.Version)
	_, _, err = Format{Name: "test/3", Magic: "XMQTESTS", Version: 3, Oldest: 2}.NewReader(bytes.NewReader(b.Bytes()))
	require.ErrorContains(t, err, "version 1 of test/3 is not known")
}

// FuzzFrames: no bytes make the reader panic, take much memory or hand out what was not checked.
func FuzzFrames(f *testing.F) {
	var b bytes.Buffer
	w, err := format.NewWriter(&b, Head{Pos: event.Position{Log: 1, Seq: 2, Chain: 3}, Preface: []byte("SELECT 1;")})
	require.NoError(f, err)
	_, err = w.Write(bytes.Repeat([]byte("x"), 3*MaxFrame/2))
	require.NoError(f, err)
	require.NoError(f, w.End())
	whole := b.Bytes()
	f.Add(whole)
	for n := 0; n < len(whole); n += 1 + len(whole)/40 {
		f.Add(whole[:n])
		f.Add(append(bytes.Clone(whole[:n]), 0xff))
	}
	huge := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(huge[36:], 1<<31)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, in []byte) {
		r, h, err := format.NewReader(bytes.NewReader(in))
		if err != nil {
			require.True(t, errors.Is(err, event.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF), err)
			return
		}
		data, err := io.ReadAll(r)
		if err != nil {
			require.True(t, errors.Is(err, event.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF), err)
			return
		}
		again := bytes.Buffer{}
		w, err := format.NewWriter(&again, h)
		require.NoError(t, err)
		_, err = w.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.End())
		reread, h2, err := format.NewReader(&again)
		require.NoError(t, err)
		require.Equal(t, h, h2)
		same, err := io.ReadAll(reread)
		require.NoError(t, err)
		require.Equal(t, data, same)
	})
}

// What fills a stream may itself end too early; that is no end.
func TestFillTellsACutFromAnEnd(t *testing.T) {
	format := Format{Name: "test/1", Magic: "TESTTEST", Version: 1}
	for _, err := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		w, e := format.NewWriter(io.Discard, Head{})
		require.NoError(t, e)
		require.ErrorIs(t, w.Fill(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(err))), err)
	}
	var whole, pieces bytes.Buffer
	for b, r := range map[*bytes.Buffer]io.Reader{&whole: strings.NewReader(strings.Repeat("x", MaxFrame+7)),
		&pieces: iotest.OneByteReader(strings.NewReader(strings.Repeat("x", MaxFrame+7)))} {
		w, err := format.NewWriter(b, Head{})
		require.NoError(t, err)
		require.NoError(t, w.Fill(r))
		require.NoError(t, w.End())
	}
	require.Equal(t, whole.Bytes(), pieces.Bytes())
}
