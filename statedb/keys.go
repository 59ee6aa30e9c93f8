package statedb

import (
	"fmt"

	"xmq/broker/event"
)

// All keys of the store. Every key begins with one letter for its kind and a slash.
//
//	c/<client>     Client
//	f/<client>     Forgotten
//	d/<dump>       dumpflow.Dump
//	a/<alert key>  Alert
//	u/<20 digits>  Audit, by its number
//	e/<20 digits>  Event, by its number
//	m/meta         Meta
//	m/doubts       Doubts
//	m/checkpoint   event.Position and the time of the log that nodes were told, a JSON object
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
