package redis

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"xmq/integration/shorttest"
	"xmq/nodeclient"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/redistest"
)

// server is shared by the tests that do not hurt it; each has logical databases of its own.
var server *redistest.Server

func TestMain(m *testing.M) {
	shorttest.Main(m, func() (stop func() error, err error) {
		server, err = redistest.Start()
		return server.Stop, err
	},
		"TestDamagedEntriesAreRefused", "TestGoldenEntries")
}

// numbers gives folders of the suite, and tests, logical databases of the server; each has the next one for restores.
type numbers struct {
	mu    sync.Mutex
	byDir map[string]int
}

var databases = numbers{byDir: make(map[string]int)}

func (n *numbers) of(dir string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.byDir[dir]; !ok {
		n.byDir[dir] = 2 * len(n.byDir)
	}
	return n.byDir[dir]
}

// client is another client of a logical database, not the driver.
func client(t *testing.T, srv *redistest.Server, db int) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: srv.Addr(), Password: redistest.Password, DB: db, Protocol: 2,
		DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// factory: each body appends to a list, in both forms.
var factory = drivertest.Factory{
	Open: func(t *testing.T, dir string) nodeclient.Database {
		target, err := Open(t.Context(), server.URL(databases.of(dir)), Options{})
		require.NoError(t, err)
		return target
	},
	Body: func(k uint64) []byte {
		if k%2 == 0 {
			return fmt.Appendf(nil, "*3\r\n$5\r\nRPUSH\r\n$1\r\nn\r\n$%d\r\n%d\r\n", len(fmt.Sprint(k)), k)
		}
		return fmt.Appendf(nil, "SET pad:%d %s\nRPUSH n %d\n", k, strings.Repeat("x", 1000), k)
	},
	Invalid: []byte("RPUSH n 777\nSET half 1\nSADD n 1"),
	Applied: func(t *testing.T, dir string) []uint64 {
		c := client(t, server, databases.of(dir))
		require.EqualValues(t, 0, c.Exists(t.Context(), "half").Val())
		return drivertest.Numbers(t, c.LRange(t.Context(), "n", 0, -1).Val())
	},
}

func TestTheDriverPassesTheConformanceSuite(t *testing.T) { drivertest.Run(t, factory) }

// patience is how long a test waits for what must come; tick is how often it looks.
const (
	patience = 2 * time.Minute
	tick     = 5 * time.Millisecond
)
