package bench

import (
	"cmp"
	"context"
)

func ingest() Scenario {
	return Scenario{
		Name: "ingest", Asks: "4 producers at the NATS door, every answer after its sync", Unit: "increments/s",
		Aim:  "30x jetstream-sync, 6x jetstream, 1x redis",
		disk: everyAnswerSynced, ours: oursIngest,
		peers: append(jetstreams(jetstreamIngest), redisPeer("redis", 100), redisPeer("redis-unpipelined", 1)),
	}
}

// everyAnswerSynced is the promise of our doors.
const everyAnswerSynced = "synced before every answer"

func bodySize(p *Params) int { return cmp.Or(p.Size, payloadBytes) }

func oursIngest(ctx context.Context, dir string, p *Params) (v float64, err error) {
	h, err := newCluster(dir)
	if err != nil {
		return 0, err
	}
	defer closing(&err, h.close)
	return pourRate(ctx, producers, bodySize(p), span(p), natsWriters(h.broker.NATSURL()))
}
