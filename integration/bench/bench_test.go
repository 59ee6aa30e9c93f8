package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/integration/shorttest"
)

func TestMain(m *testing.M) {
	// Scenarios start servers and measure.
	shorttest.Only("TestEveryScenarioHasItsOwnName", "TestMedian", "TestRatio", "TestJSONShape", "TestTable")
	os.Exit(m.Run())
}

// Every scenario runs with every peer, so that none rots. No figure is judged.
func TestEveryScenarioRuns(t *testing.T) {
	for _, s := range Scenarios() {
		peers := s.Peers()
		if len(peers) == 0 {
			peers = []string{""}
		}
		if shorttest.Less() { // the race detector has no need of other people's code
			peers = peers[:1]
		}
		for _, peer := range peers {
			t.Run(s.Name+" "+peer, func(t *testing.T) {
				var log bytes.Buffer
				r, err := s.Run(t.Context(), Params{Rounds: 1, Peer: peer, Tiny: true, Log: &log})
				require.NoError(t, err, log.String())
				require.Len(t, r.Rounds, 1)
				figures := []float64{r.Ours}
				if peer != "" {
					figures = append(figures, r.Theirs, r.Ratio)
				}
				for _, v := range figures {
					require.True(t, v > 0 && !math.IsInf(v, 0), "%v", r)
				}
				require.NotEmpty(t, log.String())
				require.NotEmpty(t, r.Disk)
			})
		}
	}
}

func TestEveryScenarioHasItsOwnName(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		require.False(t, seen[s.Name], s.Name)
		seen[s.Name] = true
		require.NotEmpty(t, s.Asks, s.Name)
		require.NotEmpty(t, s.Unit, s.Name)
		found, err := Find(s.Name)
		require.NoError(t, err)
		require.Equal(t, s.Name, found.Name)
		require.Error(t, s.Check("kafka"))
	}
	_, err := Find("frob")
	require.ErrorContains(t, err, `no scenario "frob"`)
}

func TestMedian(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
	require.Equal(t, 7.0, median([]float64{7}))
}

// The ratio is the median round by round, and above 1 is better whichever way the figure goes.
func TestRatio(t *testing.T) {
	rounds := []Round{{10, 5}, {30, 10}, {80, 20}}
	r := Result{Rounds: rounds}
	r.sum(false)
	require.Equal(t, []float64{30, 10, 3}, []float64{r.Ours, r.Theirs, r.Ratio})
	r = Result{Rounds: rounds}
	r.sum(true)
	require.InDelta(t, 1.0/3, r.Ratio, 1e-9)
	r = Result{Rounds: []Round{{Ours: 4}}}
	r.sum(false)
	require.Equal(t, []float64{4, 0, 0}, []float64{r.Ours, r.Theirs, r.Ratio})
}

// What scripts rely on.
func TestJSONShape(t *testing.T) {
	r := Result{Scenario: "s", Rounds: []Round{{10, 5}}, Peer: "p", Unit: "u", Asks: "a", Aim: "1x", Disk: "synced",
		PeerDisk: "not", Seconds: 1}
	r.sum(false)
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, r))
	require.JSONEq(t, `{"scenario":"s","rounds":[{"ours":10,"theirs":5}],"ours":10,"peer":"p","theirs":5,"ratio":2,`+
		`"unit":"u","asks":"a","aim":"1x","disk":"synced","peer_disk":"not","seconds":1}`, out.String())
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")))
	out.Reset()
	require.NoError(t, WriteJSON(&out, Result{Scenario: "s", Rounds: []Round{{Ours: 4}}, Ours: 4, Unit: "u"}))
	var keys map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &keys))
	require.NotContains(t, keys, "theirs")
	require.NotContains(t, keys, "ratio")
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteTable(&out, []Result{
		{Scenario: "s", Rounds: []Round{{10, 5}, {2000, 5}}, Ours: 1005, Peer: "p", Theirs: 5, Ratio: 200, Unit: "u"},
		{Scenario: "alone", Rounds: []Round{{Ours: 0.5}}, Ours: 0.5, Unit: "ms"},
	}))
	require.Equal(t, "SCENARIO  OURS   MIN..MAX      PEER  THEIRS  RATIO   AIM  UNIT\n"+
		"s         1005   10.0..2000    p     5.000   200.00  -    u\n"+
		"alone     0.500  0.500..0.500  -     -       -       -    ms\n", out.String())
}
