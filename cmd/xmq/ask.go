package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// confirmFlag is that of every order that takes something away for good.
func confirmFlag() cli.Flag {
	return &cli.BoolFlag{Name: "confirm", Usage: "do it, without a question"}
}

// needsReason refuses an order without a reason.
func needsReason(c *cli.Context, command string) error {
	if strings.TrimSpace(c.String("reason")) == "" {
		return usage("%s needs --reason TEXT: it will stand in the audit list", command)
	}
	return nil
}

// confirmed returns nil when the operator wants what is said: by --confirm, or on a terminal by the answer to the
// question.
func confirmed(c *cli.Context, what, question string) error {
	if c.Bool("confirm") {
		return nil
	}
	if !somebody(c.App.Reader) || !terminal(c.App.ErrWriter) {
		return fmt.Errorf("nothing was done without --confirm: %s", strings.TrimSuffix(what, "."))
	}
	fmt.Fprintf(c.App.ErrWriter, "%s\n%s [y/N] ", plain(what), plain(question))
	answer, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("nothing was done")
}

// somebody reports whether a person types what r reads.
func somebody(r io.Reader) bool {
	if i, is := r.(interruptible); is {
		r = i.r
	}
	f, is := r.(*os.File)
	if !is {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Name() != "null"
}
