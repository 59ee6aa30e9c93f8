// Package increments says what the log of a broker is: every accepted increment, in one order, kept until everybody
// has it.
//
// Log is the contract: one writer appends drafts in groups with one sync each, many readers read beside it, retention
// frees the beginning. Reader is the part that feeds nodes, View the part that a client's machine may ask while it
// steps, which never blocks. A Log on disk is in increments/segments; what each must pass is in increments/logtest.
//
// Sequences begin with 1 and have no holes. Each record carries the checksum of its chain, so that a position (log,
// sequence, chain) names one history: see package event. The head moves after the sync, never before, and nobody
// reads beyond it.
package increments
