package nats

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine outlives the tests, save one of goleveldb's that ends half a minute after its database.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}
