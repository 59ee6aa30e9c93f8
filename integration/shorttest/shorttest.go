// Package shorttest says which tests run when not all of them do. There are three sets:
//
//	go test            everything; nothing is skipped
//	TEST_LESS=1        (make race) the same tests but for those of other processes, into which the race detector does
//	                   not look; those that only count or measure do less of it
//	go test -short     (make check) what needs no server and no processes, and takes seconds
//
// A test that does not belong to the set is not selected, as with -run: it neither passes nor is skipped.
package shorttest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Less says that a test that only counts or measures may do less.
func Less() bool { return testing.Short() || os.Getenv("TEST_LESS") != "" }

// Only lets go test -short run these tests of a package and no others, and says so; a -run on the command line
// decides by itself. For the beginning of a TestMain, which starts servers when it is false.
func Only(names ...string) bool {
	flag.Parse()
	run := flag.Lookup("test.run")
	if !testing.Short() || run.Value.String() != "" {
		return false
	}
	if err := run.Value.Set("^(" + strings.Join(names, "|") + ")$"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return true
}

// WithinProcess lets a run for the race detector run these tests of a package and no others: its other tests start
// processes, and the detector does not look into those. A -run on the command line decides by itself. For the beginning
// of a TestMain.
func WithinProcess(names ...string) {
	flag.Parse()
	run := flag.Lookup("test.run")
	if os.Getenv("TEST_LESS") == "" || testing.Short() || run.Value.String() != "" {
		return
	}
	if err := run.Value.Set("^(" + strings.Join(names, "|") + ")$"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// Main runs the tests of a package that share a server: start makes it and returns how to stop it. go test -short runs
// only those of these names, which need none (see Only). Main does not return.
func Main(m *testing.M, start func() (stop func() error, err error), names ...string) {
	if Only(names...) {
		os.Exit(m.Run())
	}
	stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
