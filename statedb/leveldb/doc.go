// Package leveldb keeps the state of a broker in one LevelDB database: a statedb.Store.
//
// A record is one key (see keys.go) whose value is JSON with a version in "v", so that an operator can read it. A
// Write is one synced batch. Everything but audit entries and events is in memory as well (statedb.Mirror), read once
// by Open.
package leveldb
