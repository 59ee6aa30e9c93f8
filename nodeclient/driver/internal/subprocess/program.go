// Package subprocess is what drivers that run programs share: the end of what a program has written to stderr stands in
// the error that says how it ended.
//
// A Tail is the program's stderr: it keeps the last part of what is written to it. Ended puts that into the error.
package subprocess

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
)

// keep is how many bytes of a program's words are kept.
const keep = 2000

// Tail keeps the end of what is written, for the stderr of a program. It is for one goroutine at a time.
type Tail struct{ b []byte }

func (t *Tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if cut := len(t.b) - keep; cut > 0 {
		t.b = t.b[cut:]
	}
	return len(b), nil
}

// String is what was kept, without the spaces around it.
func (t *Tail) String() string { return string(bytes.TrimSpace(t.b)) }

// Ended makes the error of a program called name that has ended with err, with its last words. nil stays nil, and an
// error that is no exit status stays as it is.
func Ended(name string, stderr *Tail, err error) error {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%s: %w: %s", name, err, stderr)
}
