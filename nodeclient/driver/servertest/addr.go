package servertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The ports of FreeAddr. From 32768 on the system takes those from which connections go out: while a server that a test
// has killed is away, any connection of this machine could take its port, and it could not come back.
const (
	firstPort = 10_000
	ports     = 32_768 - firstPort
)

var nextPort atomic.Uint32

func init() { nextPort.Store(rand.Uint32N(ports)) } // several test programs run at once

// FreeAddr is an address of 127.0.0.1 on which nobody listens, and which stays free while a server is started anew.
func FreeAddr() (addr string, err error) {
	for range ports {
		addr = fmt.Sprint("127.0.0.1:", firstPort+nextPort.Add(1)%ports)
		l, busy := net.Listen("tcp", addr)
		if busy == nil {
			return addr, l.Close()
		}
		err = busy
	}
	return "", err
}
