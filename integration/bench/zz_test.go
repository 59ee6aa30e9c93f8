package bench

import (
	"context"
	"io"
	"os"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	name := os.Getenv("ZZ")
	if name == "" {
		t.Skip()
	}
	s, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &Params{Rounds: 1, Log: io.Discard}
	for range 4 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		v, err := inFolder(ctx, s.ours, p)
		cancel()
		t.Log(v, err)
	}
}
