// Package spool keeps a snapshot on this machine until all of it has come and was verified, so that nothing of one
// that is cut, damaged or forged reaches a database server.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// File is a stream that has come to its end. It lies compressed in a file without a name in the folder for temporary
// files ($TMPDIR): a process that dies leaves nothing behind.
type File struct{ f *os.File }

// Take reads r to its end. It blocks as long as r does. r's error comes back as it is; that of the disk says what to
// do. The caller closes the file.
func Take(r io.Reader) (*File, error) {
	f, err := os.CreateTemp("", "xmq-snapshot-*")
	if err != nil {
		return nil, noRoom(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(noRoom(err), f.Close())
	}
	if err := fill(f, r); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f}, nil
}

func noRoom(err error) error {
	return fmt.Errorf("keep the snapshot in %s until all of it has come: %w; make room there, or set TMPDIR to another "+
		"folder", os.TempDir(), err)
}

// source tells the errors of a reader from those of the disk.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func fill(f *os.File, r io.Reader) error {
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	s := &source{r: r}
	_, err = io.Copy(struct{ io.Writer }{z}, s)
	if end := z.Close(); err == nil {
		err = end
	}
	switch {
	case s.err != nil:
		return s.err
	case err != nil:
		return noRoom(err)
	}
	return nil
}

// Read calls f with the stream from its beginning, as often as it is called. Calls may not overlap.
func (s *File) Read(f func(io.Reader) error) error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := zstd.NewReader(s.f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	return f(z)
}

// Close gives the room back.
func (s *File) Close() error { return s.f.Close() }
