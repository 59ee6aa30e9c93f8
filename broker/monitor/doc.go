// Package monitor looks after a running broker, beside its work. A Notifier tells alerts to the outside. It is given
// what it needs as values and functions, so that nothing here needs a running server.
package monitor
