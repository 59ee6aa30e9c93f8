package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"xmq/broker/api"
	"xmq/broker/disk"
	"xmq/broker/event"
	"xmq/increments/segments"
	"xmq/statedb"
	"xmq/statedb/leveldb"
)

// CheckOffline checks the log of the data directory dir, which no broker has open, and compares it with the
// checkpoint of the state store beside it: a log that is gone from beside one is missing. Nothing is changed.
// progress is told of the sequence reached. fs.ErrNotExist: there is neither.
func CheckOffline(ctx context.Context, dir string, progress func(seq uint64)) (api.Checked, error) {
	checkpoint, why := storedCheckpoint(filepath.Join(dir, stateDir))
	rep, err := segments.CheckOffline(ctx, filepath.Join(dir, logDir), checkpoint, progress)
	c := api.CheckedOf(rep)
	c.Checkpoint = checkpoint.Seq
	if state := filepath.Join(dir, stateDir); errors.Is(err, fs.ErrNotExist) && exists(state) {
		c.Missing, err = fmt.Sprintf("there is no log in %s, but the state store %s knows of one: put the log back (is "+
			"its disk mounted?)", filepath.Join(dir, logDir), state), nil
	}
	switch {
	case errors.Is(why, fs.ErrNotExist):
		c.Unknown = "there is no state store beside the log, so nobody can say whether increments are missing at its end"
	case IsDamage(why):
		c.DamagedState(stateDir, why)
	case why != nil:
		c.Unknown = fmt.Sprintf("the state store cannot be read, so nobody can say whether increments are missing at the "+
			"log's end: %v", why)
	}
	return c, err
}

// storedCheckpoint reads the checkpoint from a state store that no broker has open.
func storedCheckpoint(dir string) (event.Position, error) {
	state, err := leveldb.Open(disk.NewStorage(disk.Options{}), disk.FrozenDir(dir), statedb.Options{})
	if errors.Is(err, statedb.ErrRecord) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return event.Position{}, err
	}
	return state.Checkpoint(), state.Close()
}
