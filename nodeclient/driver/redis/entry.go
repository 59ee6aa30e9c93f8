package redis

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"xmq/broker/event"
	"xmq/nodeclient/driver/internal/snapstream"
)

// Format is the name of the bytes a snapshot writes.
const Format = "redis-keys/1"

var stream = snapstream.Format{Name: Format, Magic: "XMQREDIS", Version: 1}

// maxWord is how many bytes a server takes as one word: no key and no value of a snapshot may have more.
const maxWord = 512 << 20

// The kinds of entries.
const (
	kindKey = 1
	kindEnd = 2
)

// entry is one key of a snapshot.
type entry struct {
	key, dump string
	till      int64 // expiry in milliseconds since 1970; 0: none
}

func (e entry) size() int { return len(e.key) + len(e.dump) + 64 }

// write writes the entry; doc.go draws it.
func (e entry) write(w io.Writer) error {
	if len(e.key) > maxWord || len(e.dump) > maxWord {
		return fmt.Errorf("the key %q takes %d bytes as a whole, more than the %d a server takes back",
			e.key[:min(len(e.key), 64)], len(e.dump), maxWord)
	}
	head := binary.LittleEndian.AppendUint32([]byte{kindKey}, uint32(len(e.key)))
	head = binary.LittleEndian.AppendUint64(head, uint64(e.till))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(e.dump)))
	for _, b := range [][]byte{head, []byte(e.key), []byte(e.dump)} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// writeEnd writes the last entry: how many there were.
func writeEnd(w io.Writer, count uint64) error {
	_, err := w.Write(binary.LittleEndian.AppendUint64([]byte{kindEnd}, count))
	return err
}

// readEntries hands out the entries of a snapshot up to its end, which must be whole and have counted right.
func readEntries(r *bufio.Reader, each func(entry) error) error {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, event.ErrDamaged)...)
	}
	var head [16]byte
	for count := uint64(0); ; count++ {
		kind, err := r.ReadByte()
		switch {
		case err != nil:
			return cut(err)
		case kind == kindEnd:
			if _, err := io.ReadFull(r, head[:8]); err != nil {
				return cut(err)
			}
			if n := binary.LittleEndian.Uint64(head[:]); n != count {
				return damaged("the snapshot ends after %d keys but has counted %d", count, n)
			}
			if _, err := r.ReadByte(); err != io.EOF {
				if err == nil {
					err = damaged("the snapshot goes on after its end")
				}
				return err
			}
			return nil
		case kind != kindKey:
			return damaged("entry %d is of kind %d, which is not known to this version", count, kind)
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return cut(err)
		}
		e := entry{till: int64(binary.LittleEndian.Uint64(head[4:]))}
		keyLen, dumpLen := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[12:])
		if keyLen > maxWord || dumpLen > maxWord || e.till < 0 {
			return damaged("entry %d has a key of %d bytes, a value of %d and the expiry %d", count, keyLen, dumpLen, e.till)
		}
		if e.key, err = readString(r, keyLen); err == nil {
			e.dump, err = readString(r, dumpLen)
		}
		if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

// readString reads n bytes; a length that lies costs no more memory than there are bytes.
func readString(r io.Reader, n uint32) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return string(b), err
}

// cut: a stream that ends before its end is cut, however the reader says so.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
