// Command xmq is the broker, the node and every tool of XMQ in one binary.
//
//	xmq demo                                                           see the main job done
//	xmq broker --data DIR                                              the broker
//	xmq node --id ID --target URL [--from NODE]                        a node beside a database
//	xmq publish [FILE...]                                              send changes
//	xmq status, positions, client, log, alerts, events, audit          look, and decide
//
// xmq help lists all commands, and each has --help; there is a file here for each. Answers go to stdout, everything
// else to stderr; what --json answers is stable.
//
// Exit codes:
//
//	0    done
//	1    refused, with one sentence why
//	64   usage
//	74   input or output failed
//	75   temporary: try again
//	78   configuration or damage: a person must look first
//	130  a command that follows, ended by a signal
//
// Commands that look (status, --check) end with 0 well, 1 warning, 2 critical, 3 cannot say.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"xmq/broker/secret"
	"xmq/broker/server"
	"xmq/configs"
)

// The exit codes of commands that look (xmq status, --check), as monitoring systems know them.
const (
	checkWell     = 0
	checkWarning  = 1
	checkCritical = 2
	checkUnknown  = 3
)

// The exit codes besides 0.
const (
	exitRefused   = 1
	exitInterrupt = 130 // as a shell says of SIGINT
	exitUsage     = 64
	exitIO        = 74
	exitTemporary = 75
	exitConfig    = 78
)

func main() {
	if serves(os.Args) {
		signal.Ignore(syscall.SIGHUP) // its configuration is still to be read; hideSecrets keeps that
	}
	syscall.Umask(0o077) // what this program and its children write is for its own user
	hideSecrets()
	if serves(os.Args) {
		survive()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks to end, a second one ends at once
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// serves reports that the program is called as a process that goes on until it is told to stop.
func serves(args []string) bool { return len(args) > 1 && (args[1] == "broker" || args[1] == "node") }

// survive lets a process that serves go on whatever becomes of the terminal it was started from and of those who read
// its log. Nobody receives these signals: hangUps does besides, and the programs that this one starts inherit nothing.
func survive() { signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE) }

// run is the whole program with its surroundings as arguments.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var missing error
	out, errs = screen{w: out}, screen{w: errs}
	app := &cli.App{
		Name: "xmq", Usage: "multi-datacenter replication broker",
		Description: "Start with `xmq demo`. configs/OPERATING.md explains the words.",
		Reader:      interruptible{ctx, in}, Writer: out, ErrWriter: errs, HideVersion: true,
		Commands:       commands(),
		ExitErrHandler: func(*cli.Context, error) {}, // exit codes are decided below
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return wrongFlag("xmq", nil, err) },
		CommandNotFound: func(_ *cli.Context, name string) {
			missing = usage("there is no command %q%s: run `xmq help`", name, meant(name, commandNames(commands())))
		},
	}
	for _, c := range app.Commands {
		withManners(c, "xmq "+c.Name)
	}
	if len(args) == 2 && (args[1] == "--version" || args[1] == "-v") {
		args = []string{args[0], "version"}
	}
	err := app.RunContext(ctx, flagsFirst(app.Commands, args))
	if err == nil {
		err = missing
	}
	if err == nil {
		return 0
	}
	var found *checked
	if errors.As(err, &found) {
		return found.code
	}
	if errors.Is(err, errInterrupted) {
		return exitInterrupt
	}
	if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) {
		words := strings.NewReplacer(context.Canceled.Error(), "interrupted", cause.Error(), "interrupted")
		err = &temporaryError{errors.New(words.Replace(err.Error()))}
	}
	// no line of it looks like one of ours
	text := strings.ReplaceAll(secret.Text(strings.TrimPrefix(err.Error(), "xmq ")), "\n", "\n  ")
	fmt.Fprintf(errs, "xmq: %s\n", text)
	return exitCode(err)
}

// commands are all there are.
func commands() []*cli.Command {
	return []*cli.Command{demoCommand(), initCommand(), brokerCommand(), nodeCommand(), publishCommand(), statusCommand(),
		positionsCommand(), clientCommand(),
		logCommand(), producerCommand(), dumpCommand(), snapshotsCommand(), alertsCommand(), eventsCommand(), auditCommand(),
		benchCommand(), versionCommand()}
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

// errInterrupted is the end of a command that goes on until somebody ends it.
var errInterrupted = errors.New("interrupted")

// goesOn is an action that goes on until somebody ends it when the flag is given: that is errInterrupted.
func goesOn(flag string, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if c.Bool(flag) && c.Context.Err() != nil {
			return errInterrupted
		}
		return err
	}
}

// checked is what a command that looks has found, as its exit code: the words are on the screen already.
type checked struct{ code int }

func (c *checked) Error() string { return fmt.Sprintf("checked: %d", c.code) }

// damageError is damage that a tool has found.
type damageError struct{ error }

func (e *damageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var u *usageError
	var i *ioError
	var t *temporaryError
	var d *damageError
	var p *fs.PathError // a file or stdout of a tool
	switch {
	case errors.As(err, &u):
		return exitUsage
	case server.IsStorage(err):
		return exitIO
	case server.IsTemporary(err), errors.As(err, &t):
		return exitTemporary
	case configs.IsConfig(err), server.IsDamage(err), errors.As(err, &d):
		return exitConfig
	case errors.As(err, &i), errors.As(err, &p):
		return exitIO
	}
	return exitRefused
}

// sentence is what an error says, so that another sentence can follow.
func sentence(err error) string {
	text := err.Error()
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}
