package leveldb

import (
	"fmt"

	"xmq/broker/event"
)

// All keys of the store. Every key begins with one letter for its kind and a slash.
//
//	c/<client>     statedb.Client
//	f/<client>     statedb.Forgotten
//	d/<dump>       dumpflow.Dump
//	a/<alert key>  statedb.Alert
//	u/<20 digits>  statedb.Audit, by its number
//	e/<20 digits>  statedb.Event, by its number
//	m/meta         statedb.Meta
//	m/doubts       statedb.Doubts
//	m/checkpoint   statedb.Mark
const (
	clientPrefix  = "c/"
	dumpPrefix    = "d/"
	fencePrefix   = "f/"
	alertPrefix   = "a/"
	auditPrefix   = "u/"
	eventPrefix   = "e/"
	metaKey       = "m/meta"
	doubtsKey     = "m/doubts"
	checkpointKey = "m/checkpoint"
)

func clientKey(id string) []byte     { return []byte(clientPrefix + id) }
func fenceKey(id string) []byte      { return []byte(fencePrefix + id) }
func dumpKey(id event.DumpID) []byte { return []byte(dumpPrefix + id.String()) }
func alertKey(key string) []byte     { return []byte(alertPrefix + key) }
func auditKey(number uint64) []byte  { return fmt.Appendf(nil, "%s%020d", auditPrefix, number) }
func eventKey(number uint64) []byte  { return fmt.Appendf(nil, "%s%020d", eventPrefix, number) }
