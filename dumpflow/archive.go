package dumpflow

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"xmq/broker/disk"
	"xmq/broker/event"
)

// A backup file is a snapshot with its position in one file:
//
//	0  8  "XMQDUMP" and the version, 0x01
//	8  .  blocks: length (4 bytes), then a chunk as in SNAP_REP. Op Get: data, numbered from 0
//	.  .  the last block: Op Stat, number of chunks before it, its data is the manifest (JSON)
//
// Integers are little-endian. Every block has a CRC, the manifest's too, for it holds the position. A file that was
// cut has no manifest and is refused; so is one that goes on after it.
const archiveMagic = "XMQDUMP\x01"

// WriteArchive stores what d yields under path, by way of a new file of a random name beside it, and returns its
// manifest. progress is told the bytes so far after every chunk. When it returns nil the file is durable; after an
// error there is none. What lies at path, a link too, is an error, or with replace is replaced itself, in one step; no
// link is followed.
func WriteArchive(path string, replace bool, d *Download, progress func(bytes int64)) (m Manifest, err error) {
	if _, err := os.Lstat(path); err == nil && !replace {
		return m, existsAlready(path)
	}
	tmp := path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return m, err
	}
	m, err = writeArchive(f, d, progress)
	err = errors.Join(err, f.Sync(), f.Close())
	switch {
	case err != nil:
	case replace:
		err = os.Rename(tmp, path)
	default:
		err = name(tmp, path)
	}
	if err != nil {
		return m, errors.Join(err, os.Remove(tmp))
	}
	return m, disk.SyncDir(filepath.Dir(path))
}

func existsAlready(path string) error {
	return fmt.Errorf("%s exists already: name another file, or replace it with --force", path)
}

// name gives the file tmp the name path, and fails when something has that name, also since a moment ago.
func name(tmp, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot, such as NFS
		if err = os.Link(tmp, path); err == nil {
			return os.Remove(tmp)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return existsAlready(path)
	}
	if err != nil {
		return fmt.Errorf("give the backup its name %s: %w", path, err)
	}
	return nil
}

func writeArchive(f io.Writer, d *Download, progress func(int64)) (Manifest, error) {
	w := bufio.NewWriterSize(f, 1<<20)
	put := func(c Chunk) error {
		head := c.appendHeader(make([]byte, 4))
		binary.LittleEndian.PutUint32(head, uint32(len(head)-4+len(c.Data)))
		_, err := w.Write(head)
		if err == nil {
			_, err = w.Write(c.Data)
		}
		return err
	}
	if _, err := w.WriteString(archiveMagic); err != nil {
		return Manifest{}, err
	}
	for size := int64(0); ; {
		c, err := d.take() // as it came: nothing is compressed twice
		if err == io.EOF {
			break
		}
		if err == nil {
			err = put(c)
		}
		if err != nil {
			return Manifest{}, err
		}
		size += int64(c.Length)
		progress(size)
	}
	m, err := d.Manifest()
	if err != nil {
		return m, err
	}
	return m, errors.Join(put(Pack(Stat, m.Chunks, m.Encode())), w.Flush())
}

// Archive reads a backup file. It is for one reader.
type Archive struct {
	file     *os.File
	r        *bufio.Reader
	manifest Manifest
	rest     []byte
	number   uint32
	size     int64
	sum      hash.Hash
	end      bool
}

// OpenArchive opens a backup file and checks everything in it once, so that a damaged file is refused before
// anything is loaded. The error names what is wrong with the file.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &Archive{file: f}
	if err = a.rewind(); err == nil {
		_, err = io.Copy(io.Discard, a)
	}
	if err == nil {
		err = a.rewind()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("backup %s: %w", path, err), f.Close())
	}
	return a, nil
}

func (a *Archive) rewind() error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	a.r = bufio.NewReaderSize(a.file, 1<<20)
	a.rest = nil
	a.number = 0
	a.size = 0
	a.sum = sha256.New()
	a.end = false
	magic := make([]byte, len(archiveMagic))
	if _, err := io.ReadFull(a.r, magic); err != nil || string(magic) != archiveMagic {
		return fmt.Errorf("it does not begin like a backup of this version: %w", event.ErrDamaged)
	}
	return nil
}

// Manifest describes the snapshot inside.
func (a *Archive) Manifest() Manifest { return a.manifest }

// Read yields the snapshot's bytes; io.EOF only when everything has matched the manifest.
func (a *Archive) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.end {
			return 0, io.EOF
		}
		if err := a.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *Archive) advance() error {
	b, err := a.block()
	if err != nil {
		return err
	}
	c, err := DecodeChunk(b)
	if err != nil {
		return err
	}
	if c.Number != a.number {
		return fmt.Errorf("chunk %d stands in the place of %d: %w", c.Number, a.number, event.ErrDamaged)
	}
	data, err := c.Unpack()
	switch {
	case err != nil:
		return err
	case c.Op == Stat:
		return a.finish(data)
	case c.Op != Get || len(data) == 0:
		return fmt.Errorf("block %d of %d bytes is no data: %w", c.Number, len(data), event.ErrDamaged)
	}
	a.number++
	a.size += int64(len(data))
	a.sum.Write(data)
	a.rest = data
	return nil
}

func (a *Archive) block() ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(a.r, n[:]); err != nil {
		return nil, fmt.Errorf("it was cut after %d bytes of data: %w", a.size, event.ErrDamaged)
	}
	size := binary.LittleEndian.Uint32(n[:])
	if size > chunkHeader+ChunkSize+ChunkSize/8 {
		return nil, fmt.Errorf("a block of %d bytes cannot be: %w", size, event.ErrDamaged)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(a.r, b); err != nil {
		return nil, fmt.Errorf("it was cut after %d bytes of data: %w", a.size, event.ErrDamaged)
	}
	return b, nil
}

func (a *Archive) finish(manifest []byte) error {
	m, err := DecodeManifest(manifest)
	if err != nil {
		return err
	}
	if err := m.Matches(a.size, hex.EncodeToString(a.sum.Sum(nil))); err != nil {
		return err
	}
	if _, err := a.r.ReadByte(); err != io.EOF {
		return errors.Join(fmt.Errorf("something follows its end: %w", event.ErrDamaged), err)
	}
	a.manifest, a.end = m, true
	return nil
}

// Close closes the file.
func (a *Archive) Close() error { return a.file.Close() }
