package main

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"xmq/broker/secret"
)

// urlFlags are the flags whose value is a URL; each of them has an environment variable.
var urlFlags = []string{"target", "broker", "nats-url", "hooks-url", "api"}

// hidden moves URLs with a password or a token from the command line into the environment, where only this user can
// see them: everybody on a machine can read the arguments of all its processes. It returns the new arguments and
// environment; ok is false when there is nothing to hide.
func hidden(args, env []string) (newArgs, newEnv []string, ok bool) {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			newArgs = append(newArgs, args[i:]...)
			break
		}
		word, value, joined := strings.Cut(args[i], "=")
		name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
		if name == word || !slices.Contains(urlFlags, name) {
			newArgs = append(newArgs, args[i])
			continue
		}
		width := 1
		if !joined && i+1 < len(args) {
			value, width = args[i+1], 2
		}
		if !secret.Has(value) {
			newArgs = append(newArgs, args[i:i+width]...)
		} else {
			variable := "XMQ_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "="
			// the first of two would win
			env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, variable) })
			ok, env = true, append(env, variable+value)
		}
		i += width - 1
	}
	return newArgs, env, ok
}

// hideSecrets starts this very process again without the secrets in its arguments, when there are any. It returns
// only when there is nothing to hide, or when that cannot be done: then the program goes on, since its work matters
// more.
func hideSecrets() {
	args, env, ok := hidden(os.Args, os.Environ())
	if !ok {
		return
	}
	if self, err := os.Executable(); err == nil {
		_ = syscall.Exec(self, args, env)
	}
}
