package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"xmq/broker/event"
	"xmq/nodeclient"
)

const (
	// reserved begins the names of all keys that belong to XMQ.
	reserved    = "xmq_"
	positionKey = reserved + "position"
	markerKey   = reserved + "restore"
)

// readPosition reads the position; zero when there is none. One that is there but no good is Fatal.
func readPosition(ctx context.Context, c redis.Cmdable) (event.Position, error) {
	fields, err := c.HGetAll(ctx, positionKey).Result()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return event.Position{}, lost(errors.New("it is no hash"))
	}
	if err != nil {
		return event.Position{}, classify(ctx, "read the position", err)
	}
	if len(fields) == 0 {
		return event.Position{}, nil
	}
	return parsePosition(fields["log_id"], fields["seq"], fields["chain"])
}

// keepTopics stores topics beside the position.
func keepTopics(ctx context.Context, c redis.Cmdable, topics event.Topics) error {
	answer, err := keepScript.run(ctx, c, []string{positionKey}, []any{string(topics)})
	if err != nil {
		return classify(ctx, "store the topics", err)
	}
	if number(answer) != 1 {
		return errors.New("redis: store the topics: there is no position beside which they could stand")
	}
	return nil
}

func parsePosition(log, seq, chain string) (pos event.Position, err error) {
	if pos.Log, err = event.ParseLogID(log); err != nil {
		return event.Position{}, lost(err)
	}
	if pos.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
		return event.Position{}, lost(err)
	}
	if pos.Chain, err = event.ParseChain(chain); err != nil {
		return event.Position{}, lost(err)
	}
	return pos, nil
}

// lost is the loss of the copy's place.
func lost(err error) error {
	return nodeclient.Fatal(fmt.Errorf("redis: the key %s does not hold a position: this copy has lost its position; "+
		"restore it from another node, or seek if you know its position: %w", positionKey, err))
}

// words are the fields of a position as the scripts take them.
func words(pos event.Position) []any {
	return []any{pos.Log.String(), strconv.FormatUint(pos.Seq, 10), pos.Chain.String()}
}

// brokerTime is the same text on every node; "" for 0.
func brokerTime(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}
