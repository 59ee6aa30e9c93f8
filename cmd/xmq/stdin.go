package main

import (
	"context"
	"io"
)

// interruptible reads from r until ctx ends: Ctrl-C ends a tool that waits for a line at a terminal. A Read that is
// cut off stays behind in its goroutine until its bytes come, and they are lost; the program ends then anyway.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

// Read is like r's; it returns the context's error as soon as that ends.
func (i interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	own := make([]byte, len(p)) // the caller may use p again when this returns early
	go func() {
		n, err := i.r.Read(own)
		done <- result{n, err}
	}()
	select {
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	case res := <-done:
		return copy(p, own[:res.n]), res.err
	}
}
