package server

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/producer"
)

// said is the number in a body of these tests.
func said(r event.Encoded) uint64 { return binary.LittleEndian.Uint64(r.Body()) }

// bodies reads the whole log, and returns the numbers of each producer in the order of the log.
func (r *running) bodies() map[string][]uint64 {
	all := map[string][]uint64{}
	for from := uint64(1); from <= r.stores.log.Head().Seq; {
		records, err := r.stores.log.Read(from, 1000, 1<<20)
		require.NoError(r.t, err)
		for _, e := range records {
			d, err := e.Decode()
			require.NoError(r.t, err)
			all[d.Producer] = append(all[d.Producer], said(e))
			from = d.Seq + 1
		}
	}
	return all
}

// XQ-2, XQ-6, XI-1: the broker is stopped and started again and again under producers that do not wait for answers,
// across borders of segments. Each draft is stored once, those of a producer in its order, each under the sequence
// that was answered.
func TestXQ06ProducersSurviveRestarts(t *testing.T) {
	cfg := testConfig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg.NATSAddr = l.Addr().String()
	require.NoError(t, l.Close())
	cfg.MaxRecords = 7000
	r := startBroker(t, cfg)
	const producers, each = 3, 20_000
	seqs := make([][]uint64, producers)
	var work sync.WaitGroup
	var half sync.WaitGroup
	half.Add(producers)
	for i := range producers {
		p, err := producer.Dial(r.NATSURL(), fmt.Sprint("p", i),
			producer.Options{Once: true, Records: 4000, Timeout: time.Second,
				Done: func(_, seq uint64, err error) {
					if err != nil {
						t.Error(err)
					}
					seqs[i] = append(seqs[i], seq)
				}})
		require.NoError(t, err)
		work.Go(func() {
			defer p.Close()
			for n := range uint64(each) {
				if n == each/4 {
					half.Done()
				}
				if err := p.Publish(t.Context(), event.Draft{Body: binary.LittleEndian.AppendUint64(nil, n)}); err != nil {
					t.Error(err)
					return
				}
			}
			if err := p.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	half.Wait()
	for range 3 {
		require.NoError(t, r.stop())
		r = startBroker(t, cfg)
		before := r.stores.log.Head().Seq
		soon(t, "the producers go on", func() bool {
			h := r.stores.log.Head().Seq
			return h >= before+1000 ||
				h == producers*each
		})
	}
	work.Wait()
	all := r.bodies()
	for i := range producers {
		got := all[fmt.Sprint("p", i)]
		require.Len(t, got, each)
		require.Len(t, seqs[i], each)
		for n := range uint64(each) {
			require.Equal(t, n, got[n])
			rec, err := r.stores.log.Read(seqs[i][n], 1, 1<<20)
			require.NoError(t, err)
			require.Equal(t, n, said(rec[0]))
		}
	}
}

// A producer above what the broker lets wait is refused as busy, repeats, and loses nothing of its order.
func TestProducerIsHeldBackByABusyBroker(t *testing.T) {
	cfg := testConfig(t)
	cfg.QueueCount = 3000
	r := startBroker(t, cfg)
	p, err := producer.Dial(r.NATSURL(), "p0", producer.Options{Records: 30_000, Timeout: time.Minute})
	require.NoError(t, err)
	defer p.Close()
	began := time.Now()
	for n := range uint64(60_000) {
		require.NoError(t, p.Publish(t.Context(), event.Draft{Body: binary.LittleEndian.AppendUint64(nil, n)}))
	}
	require.NoError(t, p.Flush(t.Context()))
	require.Less(t, time.Since(began), 50*time.Second, "nothing waited for the minute behind which an answer is lost")
	got := r.bodies()["p0"]
	require.Equal(t, 60_000, len(got), "without Once, too: a refusal is no unknown outcome")
	for n, v := range got {
		require.EqualValues(t, n, v)
	}
}

// A draft above the broker's limit is refused by name; those around it are stored, also those of a megabyte.
func TestProducerIsToldWhichDraftIsRefused(t *testing.T) {
	cfg := testConfig(t)
	r := startBroker(t, cfg)
	p, err := producer.Dial(r.NATSURL(), "p0", producer.Options{})
	require.NoError(t, err)
	defer p.Close()
	for _, size := range []int{8, cfg.MaxIncrement, cfg.MaxIncrement + 1, 8, cfg.MaxIncrement + natsMargin} {
		require.NoError(t, p.Publish(t.Context(), event.Draft{Body: make([]byte, size)}))
	}
	var refused *producer.Refused
	require.ErrorAs(t, p.Flush(t.Context()), &refused)
	require.EqualValues(t, 3, refused.Draft)
	require.Equal(t, "too_large", refused.Code)
	seq, err := p.PublishWait(t.Context(), event.Draft{Body: []byte("x")})
	require.NoError(t, err)
	require.EqualValues(t, 4, seq)
}

// A producer that is started again begins with the clock, far above its last number: that is no jump. It may not
// poison its counter either.
func TestXQ06ProducerBeginsAgainWithTheClock(t *testing.T) {
	r := startBroker(t, testConfig(t))
	for n := range uint64(3) {
		p, err := producer.Dial(r.NATSURL(), "shop", producer.Options{Once: true})
		require.NoError(t, err)
		seq, err := p.PublishWait(t.Context(), event.Draft{Body: []byte("x")})
		require.NoError(t, err)
		require.Equal(t, n+1, seq)
		p.Close()
	}
	status, a := r.ask("/v1/increments", "x", "Xmq-Producer", "shop", "Xmq-Number", "18446744073709551615")
	require.Equal(t, 409, status)
	require.Equal(t, "jump", a["code"])
}
