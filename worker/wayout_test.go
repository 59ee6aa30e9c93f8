package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/statedb"
)

// Nobody is told to join from a node that does not exist: whoever cannot go on hears of a copy that it can load, and
// where there is none what helps without one.
func TestAWayOutNamesOnlyCopiesThatCanBeLoaded(t *testing.T) {
	log := event.LogID(1)
	copyOf := func(id string, change func(*statedb.Client)) *statedb.Client {
		c := &statedb.Client{ID: id, Driver: "sqlite", State: statedb.Following, Heard: 6,
			Acked: event.Position{Log: log, Seq: 20}}
		change(c)
		return c
	}
	unfit := []*statedb.Client{
		copyOf("n1", func(*statedb.Client) {}), // itself
		copyOf("kind", func(c *statedb.Client) { c.Driver = "postgres" }),
		copyOf("topics", func(c *statedb.Client) { c.Topics = []string{"shop"} }),
		copyOf("log", func(c *statedb.Client) { c.Acked.Log = event.LogID(2) }),
		copyOf("moves", func(c *statedb.Client) { c.Seek = &event.Position{} }),
		copyOf("lost", func(c *statedb.Client) { c.State = statedb.Fatal }),
		copyOf("waits", func(c *statedb.Client) { c.State = statedb.NeedsDump }),
		copyOf("ahead", func(c *statedb.Client) { c.Acked.Seq = 21 }),
		copyOf("refused", func(*statedb.Client) {}),
		copyOf("begins", func(c *statedb.Client) { c.State = statedb.Loading }),
	}
	refused := func(id string) bool { return id == "refused" }
	for _, way := range []Way{WayEmpty, WayTrimmed, WayLost, WayOther, WayAhead, WayData, WayTopics, WayOrdered} {
		for _, first := range []uint64{1, 10} {
			for _, known := range []bool{true, false} {
				for _, role := range []statedb.Role{statedb.Master, statedb.Follower} {
					s := Stranded{ID: "n1", Kind: "sqlite", Role: role, Known: known, Acked: 4, Way: way}
					alone := s.Out(Situation{Log: log, First: first, Head: 20, Copies: unfit, Started: 5, Refused: refused})
					require.NotContains(t, alone, "--from", "%s", way)
					if way != WayData && way != WayTopics { // their texts say it
						require.Regexp(t, "xmq client (seek|forget) n1|--restore FILE|data directory", alone, "%s", way)
					}
					for want, fit := range map[string][]*statedb.Client{
						"m1": {copyOf("m1", func(*statedb.Client) {}),
							copyOf("m2", func(c *statedb.Client) { c.Stopped = 1 })},
						"m3": {copyOf("m3", func(*statedb.Client) {}),
							copyOf("m4", func(c *statedb.Client) { c.Acked.Seq-- })},
						"m5, whose node has to run": {copyOf("m5", func(c *statedb.Client) { c.Silent = 1 })},
						"m6, which has failed at increment " +
							"21 and has to be mended first": {copyOf("m6", func(c *statedb.Client) {
							c.State, c.LastError = statedb.Failed, &statedb.Trouble{Seq: 21}
						})},
					} {
						text := s.Out(Situation{Log: log, First: first, Head: 20, Copies: append(fit, unfit...), Started: 5,
							Refused: refused})
						require.Contains(t, text, "--from "+want[:2], "%s", way)
						require.Contains(t, text, "it loads the copy of "+want, "%s", way)
						replaces := way == WayLost || way == WayOther || way == WayAhead || way == WayData || way == WayTopics
						require.Equal(t, replaces, strings.Contains(text, "--replace"), "%s", way)
					}
				}
			}
		}
	}
	hook := Stranded{ID: "n1", Kind: "webhook", Acked: 4, Way: WayTrimmed}
	text := hook.Out(Situation{Log: log, First: 10, Head: 20,
		Copies: []*statedb.Client{copyOf("m1", func(c *statedb.Client) { c.Driver = "webhook" })}})
	require.Equal(t, "What a webhook has received cannot be loaded from another client: xmq client seek n1 10 "+
		"--reason TEXT gives up increments 5 to 9 there, which the log does not have any more", text)
}

// Texts of the broker name --from in one place only, which knows what there is to join from.
func TestOnlyTheWayOutNamesFrom(t *testing.T) {
	for _, dir := range []string{".", "../broker", "../dumpflow"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "wayout.go" {
				return err
			}
			text, err := os.ReadFile(path)
			for i, line := range strings.Split(string(text), "\n") {
				code, _, _ := strings.Cut(line, "//")
				for _, word := range []string{"--from TARGET", "--from NODE", "--from %s", "with a DUMP:"} {
					if strings.Contains(code, word) && !strings.Contains(code, "xmq dump") {
						t.Errorf("%s:%d names %s: let Stranded.Out say it", path, i+1, word)
					}
				}
			}
			return err
		}))
	}
}

// Where the log itself is in doubt, a copy counts only when its node was found in agreement since the broker started:
// of two nodes that are ahead of an old copy of the data, each was told to load the other one. Who has accepted the log
// is not told to accept it.
func TestACopyThatNobodyHasSeenSinceIsNoWayOutOfADoubt(t *testing.T) {
	log := event.LogID(1)
	other := &statedb.Client{ID: "n2", Driver: "sqlite", State: statedb.Following, Heard: 4,
		Acked: event.Position{Log: log, Seq: 20}}
	g := Situation{Log: log, First: 1, Head: 20, Copies: []*statedb.Client{other}, Started: 5}
	s := Stranded{ID: "n1", Kind: "sqlite", Known: true, Acked: 30, Way: WayAhead}
	require.NotContains(t, s.Out(g), "--from")
	require.Contains(t, s.Out(g), "xmq log accept")
	g.Taken = 30
	require.NotContains(t, s.Out(g), "log accept")
	require.Contains(t, s.Out(g), "xmq client seek n1 21 --reason TEXT lets it go on with this log")
	other.Heard = 6
	require.Contains(t, s.Out(g), "--from n2")
}
