package server

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// A start with a smaller max_records says where the open segment ends now; one with the same or a larger says nothing.
func TestAStartWithASmallerMaxRecordsSaysSo(t *testing.T) {
	cfg := quiet(t)
	cfg.MaxRecords = 100
	r := still(t, cfg)
	r.fill(5)
	require.NoError(t, r.stop())
	says := func(records int64) string {
		var out bytes.Buffer
		cfg.MaxRecords = records
		s, err := openStores(&cfg, slog.New(slog.NewTextHandler(&out, nil)), nil, nil)
		require.NoError(t, err)
		require.NoError(t, s.close())
		return out.String()
	}
	require.NotContains(t, says(100), "max_records")
	require.NotContains(t, says(1000), "max_records")
	require.Contains(t, says(3), `event="segment resized" max_records=3 open_segment_ends_with=5 was_made_for=100`)
	require.Contains(t, says(50), `max_records=50 open_segment_ends_with=50 was_made_for=100`)
}
