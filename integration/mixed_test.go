package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kind is one kind of database in the mixed run: its topic and its copies, of which the first began and the others
// joined by DUMP.
type kind struct {
	course
	copies []*copied
}

type copied struct {
	*place
	id, from string
	p        *process
}

// One broker, one log, four kinds of databases, each kind on its own topic: three nodes on three PostgreSQL
// databases, three on MariaDB, two on Redis, two on key-value stores. Nodes, servers and the broker are killed while
// all of it is written. In the end the copies of each kind are equal, row by row.
func TestMixedKindsOnOneLog(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, "--masters", "postgres1,mysql1,redis1,kv1")
	b := s.broker()
	var kinds []*kind
	var all []string
	for _, k := range []struct {
		rig
		copies int
	}{{postgresRig(), 3}, {mysqlRig(), 3}, {redisRig(), 2}, {kvRig(), 2}} {
		one := &kind{course: course{site: s, rig: k.rig, topic: k.name}}
		for i := range k.copies {
			c := &copied{place: k.place(t), id: fmt.Sprint(k.name, i+1)}
			if i > 0 {
				c.from = fmt.Sprint(k.name, i) // each from the one before
			}
			one.copies = append(one.copies, c)
			all = append(all, c.id)
		}
		one.post(one.setup...)
		one.start(one.copies[0])
		kinds = append(kinds, one)
	}
	write := func(rounds int) {
		for range rounds {
			k := kinds[rng.IntN(len(kinds))]
			k.some(1 + rng.IntN(9))
		}
	}
	write(80)
	for _, k := range kinds {
		for _, c := range k.copies[1:] {
			s.level(c.from) // it can be a target
			k.start(c)
			write(10)
		}
	}
	s.level(all...)
	for round := range 12 {
		k := kinds[rng.IntN(len(kinds))]
		c := k.copies[rng.IntN(len(k.copies))]
		switch {
		case round%6 == 5: // the broker: what it has answered is there
			b.kill()
			b = s.broker()
		case round%4 == 3 && c.restart != nil:
			restarted := make(chan error, 1)
			go func() { restarted <- c.restart() }()
			write(10)
			require.NoError(t, <-restarted)
		default:
			c.p.kill()
			write(5)
			k.start(c)
		}
		write(10)
	}
	write(20)
	s.level(all...)
	for _, k := range kinds {
		for _, c := range k.copies {
			k.holds(c.place, k.next)
		}
		t.Logf("%s: %d increments, %d equal copies", k.name, k.next, len(k.copies))
	}
}

// start starts the node of a copy.
func (k *kind) start(c *copied) {
	more := []string{"--topics", k.topic}
	c.p = k.runs(c.id, c.from, c.place, more...)
	select { // what cannot start at all says so here, not as a copy that is never level
	case <-c.p.done:
		k.t.Fatalf("node %s ended at once:\n%s", c.id, c.p.log)
	case <-time.After(10 * time.Millisecond):
	}
}
