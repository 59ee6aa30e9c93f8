package postgres

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// entry is one line of an archive's table of contents: a thing, and the SQL that pg_restore runs for it.
type entry struct {
	kind      string // TABLE, INDEX, TABLE DATA, ...
	name      string // of the thing; for some kinds with others before it or after it
	namespace string // schema; "" for none
	sql       string // that makes it
	copy      string // that takes its rows
	data      bool   // data of it comes
	owner     string // at the source
	at        int64  // where sql begins in the archive, its length included
}

// The versions of the custom format that are known: 12 to 15, 16, 17 and 18.
const (
	oldestArchive = 14
	newestArchive = 16
)

// The bounds of what a table of contents may claim.
const (
	maxEntries = 10_000_000
	maxText    = 1 << 30
)

var errArchive = errors.New("the archive of pg_dump cannot be read")

// readArchive calls f with each entry of an archive in pg_dump's custom format. What comes after the table of
// contents is data only (COPY's rows and large objects) and is not read.
func readArchive(r io.Reader, f func(entry) error) error {
	a := archive{r: bufio.NewReaderSize(r, 1<<16)}
	a.head()
	n := a.number()
	if a.err == nil && (n < 0 || n > maxEntries) {
		return fmt.Errorf("%w: it claims %d entries", errArchive, n)
	}
	for i := int64(0); i < n && a.err == nil; i++ {
		e := a.entry()
		if a.err != nil {
			break
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return a.err
}

// archive reads numbers and texts; the first error stays.
type archive struct {
	r   *bufio.Reader
	rev byte  // of the format
	n   int64 // bytes read so far
	err error
}

func (a *archive) fail(err error) {
	switch {
	case a.err != nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		a.err = fmt.Errorf("%w: it ends within its table of contents", errArchive)
	default:
		a.err = err
	}
}

func (a *archive) byte() byte {
	if a.err != nil {
		return 0
	}
	b, err := a.r.ReadByte()
	if err != nil {
		a.fail(err)
	}
	a.n++
	return b
}

// number is a sign and four bytes, little-endian.
func (a *archive) number() int64 {
	sign := a.byte()
	var b [4]byte
	for i := range b {
		b[i] = a.byte()
	}
	n := int64(binary.LittleEndian.Uint32(b[:]))
	if sign != 0 {
		return -n
	}
	return n
}

// text is its length and its bytes; there is a length below 0 for no text. Its length is believed only as far as
// bytes come.
func (a *archive) text() (s string, there bool) {
	n := a.number()
	if n < 0 || a.err != nil {
		return "", false
	}
	if n > maxText {
		a.fail(fmt.Errorf("%w: it claims a text of %d bytes", errArchive, n))
		return "", false
	}
	b, err := io.ReadAll(io.LimitReader(a.r, n))
	if err == nil && int64(len(b)) < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		a.fail(err)
	}
	a.n += int64(len(b))
	return string(b), true
}

func (a *archive) skipTexts(n int) {
	for range n {
		a.text()
	}
}

func (a *archive) head() {
	var magic [11]byte // "PGDMP", three bytes of version, sizes of a number and an offset, format
	for i := range magic {
		magic[i] = a.byte()
	}
	a.rev = magic[6]
	switch {
	case a.err != nil:
		return
	case string(magic[:5]) != "PGDMP" || magic[10] != 1:
		a.fail(fmt.Errorf("%w: it is not in the custom format", errArchive))
	case magic[5] != 1 || a.rev < oldestArchive || a.rev > newestArchive:
		a.fail(fmt.Errorf("%w: its format %d.%d is not known to this version of XMQ", errArchive, magic[5], a.rev))
	case magic[8] != 4 || magic[9] != 8:
		a.fail(fmt.Errorf("%w: its numbers have %d and %d bytes", errArchive, magic[8], magic[9]))
	}
	if a.rev < 15 { // the level of compression; later its name
		a.number()
	} else {
		a.byte()
	}
	for range 7 { // the time
		a.number()
	}
	a.skipTexts(3) // name of the database, versions of the server and of pg_dump
}

func (a *archive) entry() (e entry) {
	a.number() // its number
	e.data = a.number() != 0
	a.skipTexts(2) // its row in the catalogs
	e.name, _ = a.text()
	e.kind, _ = a.text()
	a.number() // section
	e.at = a.n
	e.sql, _ = a.text()
	a.skipTexts(1) // how it would be dropped
	e.copy, _ = a.text()
	e.namespace, _ = a.text()
	a.skipTexts(2) // tablespace and access method, which pg_restore quotes
	if a.rev >= 16 {
		a.number() // kind of relation
	}
	e.owner, _ = a.text()
	a.skipTexts(1) // WITH OIDS
	for {          // what it depends on
		if _, there := a.text(); !there {
			break
		}
	}
	for range 9 { // where its data lies
		a.byte()
	}
	return e
}

// edit is another SQL for one entry.
type edit struct {
	entry
	text string
}

// edited is an archive with other SQL for some of its entries, which stand in its order.
func edited(archive io.Reader, edits []edit) io.Reader {
	var parts []io.Reader
	at := int64(0)
	for _, e := range edits {
		old := int64(len(appendText(nil, e.sql)))
		parts = append(parts, io.LimitReader(archive, e.at-at), strings.NewReader(string(appendText(nil, e.text))),
			&skipping{archive, old})
		at = e.at + old
	}
	return io.MultiReader(append(parts, archive)...)
}

// appendText is what archive.text reads.
func appendText(b []byte, s string) []byte {
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// skipping passes over n bytes and yields none.
type skipping struct {
	r io.Reader
	n int64
}

func (s *skipping) Read([]byte) (int, error) {
	if _, err := io.CopyN(io.Discard, s.r, s.n); err != nil {
		return 0, err
	}
	return 0, io.EOF
}
