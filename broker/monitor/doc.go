// Package monitor looks after a running broker, beside its work.
//
//	Keeping    who holds the log, which everybody asks here
//	Alerts     raises and ends alerts, and tells them with the numbers of now
//	Trimmer    frees segments that nobody needs
//	Scrubber   reads the whole log slowly, for damage
//	Watcher    the checkpoint of the log; disk, stores and clients, from time to time
//	Care       what nobody has done for long
//	Notifier   tells alerts to the outside
//
// Each is given what it needs as values, interfaces and functions, among them the clock, so that nothing here needs a
// running broker. Retention, Watch and Hooks are the knobs, Knobs those of now.
package monitor
