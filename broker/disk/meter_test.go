package disk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One slow sync is no trend, two in a hundred are, and what is long ago is forgotten.
func TestMeterToleratesOneSlowSync(t *testing.T) {
	var m meter
	require.Zero(t, m.p99())
	m.sync(time.Second)
	require.Zero(t, m.p99())
	m.sync(time.Millisecond)
	require.Equal(t, time.Millisecond, m.p99())
	for range 98 {
		m.sync(time.Millisecond)
	}
	require.Equal(t, time.Millisecond, m.p99())
	m.sync(time.Second)
	require.Equal(t, time.Second, m.p99())
	for range meterWindow {
		m.sync(time.Microsecond)
	}
	require.Equal(t, time.Microsecond, m.p99())
}
