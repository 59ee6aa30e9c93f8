package main

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"xmq/configs"
)

// hidden moves a target URL with a password from the command line into the environment, where only this user can see it:
// everybody on a machine can read the arguments of all its processes. It returns the new arguments and environment; ok is
// false when there is nothing to hide.
func hidden(args, env []string) (newArgs, newEnv []string, ok bool) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if name != "--target" && name != "-target" {
			newArgs = append(newArgs, args[i])
			continue
		}
		width := 1
		if !joined && i+1 < len(args) {
			value, width = args[i+1], 2
		}
		if !configs.HasPassword(value) {
			newArgs = append(newArgs, args[i:i+width]...)
		} else {
			env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "XMQ_TARGET=") }) // the first of two would win
			ok, env = true, append(env, "XMQ_TARGET="+value)
		}
		i += width - 1
	}
	return newArgs, env, ok
}

// hidePassword starts this very process again without the password in its arguments, when there is one. It returns only when
// there is nothing to hide, or when that cannot be done: then the program goes on, since its work matters more.
func hidePassword() {
	args, env, ok := hidden(os.Args, os.Environ())
	if !ok {
		return
	}
	if self, err := os.Executable(); err == nil {
		_ = syscall.Exec(self, args, env)
	}
}
