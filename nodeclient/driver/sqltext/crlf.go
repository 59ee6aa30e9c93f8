package sqltext

import (
	"bufio"
	"errors"
	"io"
)

// crlf reads a script as the clients mariadb, mysql and sqlite3 do: a carriage return before the end of a line is no
// part of it, in strings and bodies as well. psql keeps it.
type crlf struct {
	r    *bufio.Reader
	rest []byte // of the line that is read, part of the buffer of r
	err  error  // of r, once
}

func (c *crlf) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.rest, c.err = c.r.ReadSlice('\n')
		if errors.Is(c.err, bufio.ErrBufferFull) {
			c.err = nil
		}
		switch n := len(c.rest); {
		case n > 1 && c.rest[n-1] == '\n' && c.rest[n-2] == '\r':
			c.rest = c.rest[:n-1]
			c.rest[n-2] = '\n'
		case n > 1 && c.rest[n-1] == '\r' && c.err == nil: // the buffer is full; its line may end with the next byte
			c.rest = c.rest[:n-1]
			c.err = c.r.UnreadByte()
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// lines is r as the client of the dialect reads its lines.
func (d Dialect) lines(r io.Reader) io.Reader {
	if d == PostgreSQL {
		return r
	}
	return &crlf{r: bufio.NewReader(r)}
}
