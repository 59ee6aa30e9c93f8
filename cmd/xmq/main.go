// Command xmq is the broker, the node and every tool of XMQ in one binary. Answers go to stdout, everything else to
// stderr; --json is stable. Exit codes: 0; 1 refused, with one sentence why; 64 usage; 74 I/O; 75 temporary; 78
// configuration or damage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"xmq/broker"
	"xmq/configs"
)

// The exit codes besides 0.
const (
	exitRefused   = 1
	exitUsage     = 64
	exitIO        = 74
	exitTemporary = 75
	exitConfig    = 78
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program with its surroundings as arguments.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	app := &cli.App{
		Name: "xmq", Usage: "multi-datacenter replication broker",
		Description: "Start with `xmq demo`. README.md explains the words.",
		Reader:      in, Writer: out, ErrWriter: errs, HideVersion: true,
		Commands: []*cli.Command{demoCommand(), brokerCommand(), nodeCommand(), publishCommand(), positionsCommand(), clientCommand(),
			logCommand(), dumpCommand(), snapshotsCommand(), alertsCommand(), auditCommand(), versionCommand()},
		ExitErrHandler: func(*cli.Context, error) {}, // exit codes are decided below
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usage("%v", err) },
		CommandNotFound: func(c *cli.Context, name string) {
			fmt.Fprintf(errs, "xmq: there is no command %q: run `xmq help`\n", name)
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("there is no command %q: run `xmq help`", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		withUsageErrors(c)
	}
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(errs, "xmq: %v\n", err)
	return exitCode(err)
}

// withUsageErrors makes every command answer wrong flags and stray arguments in one way.
func withUsageErrors(c *cli.Command) {
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		return usage("%s: %v (see xmq %s --help)", c.Name, err, c.Name)
	}
	for _, sub := range c.Subcommands {
		withUsageErrors(sub)
	}
}

// usageError is a wrong call of the program.
type usageError struct{ text string }

func (u *usageError) Error() string { return u.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// ioError is trouble with files or the network of a tool.
type ioError struct{ error }

func (e *ioError) Unwrap() error { return e.error }

// temporaryError is trouble that may pass.
type temporaryError struct{ error }

func (e *temporaryError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var u *usageError
	var i *ioError
	var t *temporaryError
	switch {
	case errors.As(err, &u):
		return exitUsage
	case broker.IsStorage(err):
		return exitIO
	case broker.IsTemporary(err), errors.As(err, &t):
		return exitTemporary
	case configs.IsConfig(err), broker.IsDamage(err):
		return exitConfig
	case errors.As(err, &i):
		return exitIO
	}
	return exitRefused
}
