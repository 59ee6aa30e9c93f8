package disk

import (
	"errors"
	"fmt"

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

// asDamage turns goleveldb's corruption errors into Damage and leaves others alone.
func asDamage(database string, err error) error {
	if err == nil || !lerrors.IsCorrupted(err) {
		return err
	}
	d := &Damage{File: database, Offset: -1, What: err.Error()}
	var c *lerrors.ErrCorrupted
	if errors.As(err, &c) && !c.Fd.Zero() {
		d.File += "/" + c.Fd.String()
	}
	return d
}
