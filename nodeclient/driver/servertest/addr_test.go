package servertest

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No connection that goes out gets the port of a server that is away for a moment.
func TestAFreeAddrIsNoSourceOfConnections(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	require.NoError(t, err)
	least, err := strconv.Atoi(strings.Fields(string(text))[0])
	require.NoError(t, err)
	seen := map[string]bool{}
	for range 100 {
		addr, err := FreeAddr()
		require.NoError(t, err)
		require.False(t, seen[addr], "%s is given twice", addr)
		seen[addr] = true
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		require.Less(t, n, least)
	}
}
