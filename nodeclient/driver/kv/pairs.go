package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"xmq/broker/event"
)

// readPairs hands out the pairs of a snapshot's data up to its end, which must be whole, in order and have counted
// right. They are borrowed until each returns.
func readPairs(r io.Reader, each func(key, value []byte) error) (count uint64, err error) {
	damaged := func(format string, args ...any) (uint64, error) {
		return count, fmt.Errorf(format+": %w", append(args, event.ErrDamaged)...)
	}
	var last []byte
	var head [8]byte
	for ; ; count++ {
		n, err := length(r)
		if err != nil {
			return count, err
		}
		if n == 0 {
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return count, cut(err)
			}
			if said := binary.LittleEndian.Uint64(head[:]); said != count {
				return damaged("the snapshot ends after %d pairs but has counted %d", count, said)
			}
			switch _, err := io.ReadFull(r, head[:1]); err {
			case io.EOF:
				return count, nil
			case nil:
				return damaged("the snapshot goes on after its end")
			default:
				return count, err
			}
		}
		if n > MaxKey {
			return damaged("pair %d has a key of %d bytes", count, n)
		}
		key := make([]byte, n)
		if _, err := io.ReadFull(r, key); err != nil {
			return count, cut(err)
		}
		if bytes.Compare(last, key) >= 0 {
			return damaged("the key of pair %d is not after the one before", count)
		}
		if n, err = length(r); err != nil {
			return count, err
		}
		if n > MaxValue {
			return damaged("pair %d has a value of %d bytes", count, n)
		}
		value, err := io.ReadAll(io.LimitReader(r, int64(n))) // a length that lies costs no more than there are bytes
		if err == nil && len(value) < int(n) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return count, err
		}
		if err := each(key, value); err != nil {
			return count, err
		}
		last = key
	}
}

func length(r io.Reader) (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return binary.LittleEndian.Uint32(b[:]), cut(err)
}

// cut: a stream that ends before its end is cut, however the reader says so.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
