// Package storetest is what every statedb.Store must pass: what was written is there after a restart, readers get
// copies of what is durable, and a failed write is the last.
//
// The test of a store calls Run with a Kind, which makes an empty Disk: where the store keeps its data, and how a test
// opens it anew or lets its writes fail. See the tests of statedb/leveldb.
package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/statedb"
)

// Disk is where a store keeps its data, and what a test does to it.
type Disk struct {
	// Open opens the store that is there, or a new one, after closing the one that was opened before.
	Open func(o statedb.Options) statedb.Store
	// Break lets every write of the store that is open fail, until the function it returns is called.
	Break func() (mend func())
}

// Kind makes an empty Disk of one kind for a test, which gives it up in a cleanup.
type Kind func(t *testing.T) Disk

// run calls test with a new store; reopen closes the store and opens it again.
func (k Kind) run(t *testing.T, test func(t *testing.T, db statedb.Store, reopen func() statedb.Store)) {
	disk := k(t)
	open := func() statedb.Store { return disk.Open(statedb.Options{}) }
	test(t, open(), open)
}

// Run runs the suite: what was written is there after reopening, readers get copies of what is durable, alerts count,
// entries are numbered, what is forgotten is bounded, and a failed write is the last.
func Run(t *testing.T, kind Kind) {
	for name, test := range map[string]func(*testing.T, Kind){
		"EverythingIsThereAfterReopening":             everythingIsThereAfterReopening,
		"ReadersGetCopies":                            readersGetCopies,
		"ForgettingRemovesRecordPositionAndPin":       forgettingRemovesRecordPositionAndPin,
		"LifeOfAnAlert":                               lifeOfAnAlert,
		"OldClearedAlertsAreRemoved":                  oldClearedAlertsAreRemoved,
		"PinIsTheLowestOfAllAndNamesItsHolder":        pinIsTheLowestOfAllAndNamesItsHolder,
		"AuditIsNumberedAcrossReopening":              auditIsNumberedAcrossReopening,
		"ForgottenClientsAreRememberedInBoundedSpace": forgottenClientsAreRememberedInBoundedSpace,
		"WhoHoldsTheLog":                              whoHoldsTheLog,
		"AlertIsToldAfterItIsDurable":                 alertIsToldAfterItIsDurable,
		"AlertTextIsValidAndBounded":                  alertTextIsValidAndBounded,
		"FailedWriteLeavesReadersAtTheOldState":       failedWriteLeavesReadersAtTheOldState,
		"EveryIncidentIsARowAndRowsAreBounded":        everyIncidentIsARowAndRowsAreBounded,
	} {
		t.Run(name, func(t *testing.T) { test(t, kind) })
	}
}

func write(t *testing.T, db statedb.Store, change func(*statedb.Batch)) {
	t.Helper()
	var b statedb.Batch
	change(&b)
	require.NoError(t, db.Write(&b))
}

func following(id string, acked uint64) statedb.Client {
	return statedb.Client{V: statedb.ClientVersion, ID: id, Role: statedb.Follower, State: statedb.Following,
		Acked: event.Position{Log: 7, Seq: acked, Chain: event.Chain(acked)}}
}

// pin prints who holds most of the log.
func pin(db statedb.Store) string {
	h := db.Holders(0, nil)
	first, held := h.First()
	if !held {
		return "0 nobody false"
	}
	return fmt.Sprint(first.Seq, " ", first, " ", held)
}
