package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	lerrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// A journal or manifest is a row of 32-KiB blocks filled with chunks:
//
//	0  4  CRC-32C of type and payload, masked
//	4  2  payload length, little-endian
//	6  1  type: 1 a whole record, 2 first, 3 middle, 4 last part of one
//	7  .  payload
//
// goleveldb's own reader gives up a whole block at the first bad chunk, so that damage in the last block
// looks like a torn tail to it. The scan here looks on, byte by byte.
const (
	blockSize   = 32 << 10
	chunkHeader = 7
)

// prescan reads the current manifest and all journals of a database before goleveldb opens it, because
// opening rewrites and removes files. tornManifest reports a manifest whose last edit is torn. Any damage
// that a power cut cannot explain is returned as Damage, the file copied aside.
func prescan(place Place, name string, files Files) (tornManifest bool, err error) {
	refuse := func(fd storage.FileDesc, offset int64, what string) error {
		copied, err := place.SetAside(name, fd.String())
		d := &Damage{File: place.String() + "/" + name + "/" + fd.String(), Offset: offset, What: what, Copy: copied}
		if err != nil {
			d.What += fmt.Sprintf(" (copying it aside failed: %v)", err)
		}
		return d
	}
	manifest, err := files.GetMeta()
	if cut := new(fs.PathError); errors.Is(err, fs.ErrNotExist) || lerrors.IsCorrupted(err) || errors.As(err, &cut) &&
		cut.Op == "read" {
		return false, &Damage{File: place.String() + "/" + name + "/CURRENT", Offset: -1, What: "it names no manifest: " +
			err.Error()}
	}
	if err != nil {
		return false, fmt.Errorf("read CURRENT: %w", err)
	}
	v, err := scanFile(files, manifest)
	switch {
	case err != nil:
		return false, err
	case v.damaged:
		return false, refuse(manifest, v.offset, v.what)
	case v.records == 0:
		return false, refuse(manifest, 0, "it holds no entry that can be read")
	}
	// The last edit names the journal in use, and goleveldb removes the one before it. So while the journal
	// of the last readable edit is there, nothing after that edit was in force yet; without it, edits that
	// were in force have gone.
	r, err := files.Open(storage.FileDesc{Type: storage.TypeJournal, Num: v.journal})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("open journal %d: %w", v.journal, err)
	}
	if err != nil {
		why := fmt.Sprintf("journal %d, which it names last, does not exist", v.journal)
		if v.torn {
			why = "its end is lost (" + v.what + "): " + why
		}
		return false, refuse(manifest, v.offset, why)
	}
	r.Close()
	if tornManifest = v.torn; tornManifest {
		if _, err := place.SetAside(name, manifest.String()); err != nil {
			return false, err
		}
	}
	journals, err := files.List(storage.TypeJournal)
	if err != nil {
		return false, fmt.Errorf("list journals: %w", err)
	}
	slices.SortFunc(journals, func(a, b storage.FileDesc) int { return int(a.Num - b.Num) })
	for i, fd := range journals {
		v, err := scanFile(files, fd)
		if err != nil {
			return false, err
		}
		if v.torn && i < len(journals)-1 {
			v.damaged, v.what = true, "ends in a torn record, but a newer journal exists"
		}
		if v.damaged {
			return false, refuse(fd, v.offset, v.what)
		}
	}
	return tornManifest, nil
}

func scanFile(files Files, fd storage.FileDesc) (verdict, error) {
	r, err := files.Open(fd)
	if err != nil {
		return verdict{}, fmt.Errorf("scan %s: %w", fd, err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil {
		return verdict{}, fmt.Errorf("scan %s: %w", fd, err)
	}
	return scan(b, fd.Type == storage.TypeJournal), nil
}

// verdict is what a scan found. Each record is synced before the next is written, so a power cut can tear
// only the last one: unreadable bytes with no complete record after them are torn, with one they are
// damaged. Damage to the very last record cannot be told from a torn tail.
type verdict struct {
	records int // complete ones
	torn    bool
	damaged bool
	offset  int64  // of the first unreadable byte
	what    string // why
	journal int64  // of a manifest: the oldest journal that its readable edits need
}

// scan judges the bytes of one journal (batches) or manifest.
func scan(b []byte, batches bool) verdict {
	var (
		v     verdict
		bad   = -1 // offset of the first unreadable chunk
		what  string
		start = -1   // of the record being put together
		head  []byte // the record's beginning; of a manifest all of it
		next  uint64 // the least goleveldb sequence the next batch may have
	)
	fail := func(off int, why string) {
		if bad < 0 {
			bad, what = off, why
		}
		start = -1
	}
	for off := 0; off < len(b); {
		end := min(off/blockSize*blockSize+blockSize, len(b))
		if end-off < chunkHeader {
			if end == len(b) && end%blockSize != 0 {
				fail(off, "a chunk header is cut off")
			}
			off = end
			continue
		}
		kind, size, why := chunk(b[off:end])
		if why != "" {
			if start >= 0 {
				fail(start, why)
			}
			fail(off, why)
			off++
			continue
		}
		payload := b[off+chunkHeader : off+chunkHeader+size]
		if kind == 1 || kind == 2 {
			if start >= 0 {
				fail(start, "a record has no end")
			}
			start, head = off, nil
		}
		if start < 0 { // the rest of a record whose beginning was unreadable
			fail(off, "a record has no beginning")
		} else if !batches || len(head) < batchHead {
			head = append(head, payload...)
		}
		if start >= 0 && (kind == 1 || kind == 4) {
			ok := true
			if batches {
				ok, next = follows(head, next, bad >= 0, uint64(off))
			}
			switch {
			case ok && bad >= 0:
				v.damaged, v.offset, v.what = true, int64(bad), what+", and complete records follow"
				return v
			case ok:
				v.records++
				if !batches {
					v.journal = max(v.journal, journalOf(head))
				}
			case bad < 0:
				v.damaged, v.offset, v.what = true, int64(start), "a batch whose sequence does not follow its predecessor's"
				return v
			}
			start = -1
		}
		off += chunkHeader + size
	}
	if start >= 0 {
		fail(start, "a record has no end")
	}
	if bad >= 0 {
		v.torn, v.offset, v.what = true, int64(bad), what
	}
	return v
}

// chunk checks the chunk at the beginning of b, which ends with the block; why is "" for a good one.
func chunk(b []byte) (kind byte, size int, why string) {
	kind, size = b[6], int(binary.LittleEndian.Uint16(b[4:]))
	switch {
	case kind < 1 || kind > 4:
		return 0, 0, "a chunk has no known type"
	case chunkHeader+size > len(b):
		return 0, 0, "a chunk runs past its block or the file"
	case util.NewCRC(b[6:chunkHeader+size]).Value() != binary.LittleEndian.Uint32(b):
		return 0, 0, "a chunk has a wrong checksum"
	}
	return kind, size, ""
}

// batchHead is the length of a batch's beginning: sequence 8, count 4.
const batchHead = 12

// follows checks a batch's beginning against its predecessor and returns the
// least sequence of its successor. Behind unreadable bytes (lost) it must be plausible: that keeps an
// increment whose body happens to hold a journal from being taken for one.
func follows(head []byte, next uint64, lost bool, offset uint64) (ok bool, after uint64) {
	if len(head) < batchHead {
		return false, next
	}
	seq := binary.LittleEndian.Uint64(head)
	after = seq + uint64(binary.LittleEndian.Uint32(head[8:]))
	if seq < next || after < seq || lost && next > 0 && seq-next > offset {
		return false, next
	}
	return true, after
}

// journalOf reads the journal number (tag 2) of a manifest's edit; 0 when it has none. Only
// the comparer (tag 1, a string) may stand before it.
func journalOf(edit []byte) int64 {
	if len(edit) > 1 && edit[0] == 1 {
		size, n := binary.Uvarint(edit[1:])
		if n <= 0 || size > uint64(len(edit)-1-n) {
			return 0
		}
		edit = edit[1+n+int(size):]
	}
	if len(edit) < 2 || edit[0] != 2 {
		return 0
	}
	number, _ := binary.Uvarint(edit[1:])
	return int64(number)
}
