package producer

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/door"
)

// A batch is repeated after exactly those refusals that a broker says may be repeated.
func TestTheProducerRepeatsWhatMayBeRepeated(t *testing.T) {
	source, err := os.ReadFile("../../broker/door/door.go")
	require.NoError(t, err)
	codes := regexp.MustCompile(`Code += "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, codes)
	for _, c := range codes {
		require.Equal(t, door.Code(c[1]).Retryable(), mayRepeat[c[1]], c[1])
	}
}
