package bench

import (
	"context"
	"path/filepath"
	"time"

	"xmq/broker/bus"
	"xmq/broker/server"
	"xmq/nodeclient"
	"xmq/nodeclient/driver"
)

// dumpMiB is the size of the database, without its indexes.
func dumpMiB(p *Params) int { return pick(p, 256, 4) }

// dumpRows calls put with rows of 8 KiB, together so many MiB.
func dumpRows(mib int, put func(i int, row []byte) error) error {
	const size = 8 << 10
	rows := newPayloads(size, 1)
	for i := range mib << 20 / size {
		if err := put(i, rows.fresh()); err != nil {
			return err
		}
	}
	return nil
}

// oursDump is the rate of a whole DUMP of a database that full makes, by the MiB that were put into it.
func oursDump(full func(ctx context.Context, dir string, mib int) (url string, stop func() error, err error)) side {
	return func(ctx context.Context, dir string, p *Params) (v float64, err error) {
		h, err := newCluster(dir, func(c *server.Config) { c.Masters = names(1) })
		if err != nil {
			return 0, err
		}
		defer closing(&err, h.close)
		url, stop, err := full(ctx, dir, dumpMiB(p))
		if err != nil {
			return 0, err
		}
		defer closing(&err, stop)
		t, err := driver.Open(ctx, "", url, "", dir)
		if err != nil {
			return 0, err
		}
		defer closing(&err, t.Close)
		w := &watched{t, newPlace()}
		agent, err := start(h.broker.NATSURL(), names(1)[0], "", w)
		if err != nil {
			return 0, err
		}
		defer closing(&err, agent.close)
		// What has taken an increment is known to the broker.
		err = fill(ctx, h.broker.NATSURL(), "CREATE TABLE small (id INTEGER PRIMARY KEY)", 0, nil)
		if err == nil {
			err = w.reaches(ctx, 1)
		}
		if err != nil {
			return 0, err
		}
		conn, err := bus.Dial(h.broker.NATSURL(), "backup")
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		began := time.Now()
		_, err = nodeclient.Backup(ctx, conn, nodeclient.DefaultGroup, "backup", names(1)[0],
			filepath.Join(dir, "backup.xmq"), false, nil, func(int64) {}, nil)
		return since(dumpMiB(p), began), err
	}
}
