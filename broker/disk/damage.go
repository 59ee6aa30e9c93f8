package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	lerrors "github.com/syndtr/goleveldb/leveldb/errors"
)

// Damage says that stored bytes are not what was written. The process must not serve from them; at start
// the exit code is 78, because a person must look.
type Damage struct {
	File   string // place/database/file, or place/database when no single file is to blame
	Offset int64  // in bytes; -1 when unknown
	What   string // one sentence
	Copy   string // where the file was copied before anything could change it; "" for nowhere
}

func (d *Damage) Error() string {
	at, kept := "", ""
	if d.Offset >= 0 {
		at = fmt.Sprintf(" at offset %d", d.Offset)
	}
	if d.Copy != "" {
		kept = "; a copy is kept as " + d.Copy
	}
	return fmt.Sprintf("damage in %s%s: %s%s", d.File, at, d.What, kept)
}

// IsDamage reports whether err is, or wraps, Damage.
func IsDamage(err error) bool {
	var d *Damage
	return errors.As(err, &d)
}

// asDamage classes the error of a read. What goleveldb calls corrupted is Damage, and so is a file that is gone or
// that the disk cannot read any more (EIO, an early end): a checksum finds only the rest. Everything else says that
// the file could not be opened or read this time, and stays as it is.
func asDamage(database string, err error) error {
	var (
		corrupted *lerrors.ErrCorrupted
		read      *readError
	)
	switch {
	case err == nil:
		return nil
	case noDescriptor(err):
		return asDescriptors(err)
	case lerrors.IsCorrupted(err):
		d := &Damage{File: database, Offset: -1, What: err.Error()}
		if errors.As(err, &corrupted) && !corrupted.Fd.Zero() {
			d.File += "/" + corrupted.Fd.String()
		}
		return d
	case errors.As(err, &read) && (errors.Is(err, syscall.EIO) || errors.Is(err, io.ErrUnexpectedEOF)):
		return &Damage{File: database + "/" + read.fd.String(), Offset: -1,
			What: fmt.Sprintf("the disk cannot read it: %v", read.err)}
	case errors.Is(err, fs.ErrNotExist):
		return &Damage{File: database, Offset: -1, What: fmt.Sprintf("a file is missing: %v", err)}
	}
	return err
}
