package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"xmq/broker/disk"
)

// natsMargin is what the embedded server takes in one message, above the largest increment.
const natsMargin = 1 << 20

// startNATS runs a NATS server in this process, with everything off that is not needed: no routes, gateways, leaf
// nodes, websockets, MQTT, monitoring, JetStream or system account. It listens before it returns, and takes at most
// conns connections. One that does not introduce itself in time is closed, and one for which more than an eighth of
// memory waits: its node does not read.
func startNATS(cfg *Config, conns int, log *slog.Logger) (*server.Server, error) {
	addr := cfg.NATSAddr
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("nats_addr %q: %w", addr, err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		return nil, fmt.Errorf("nats_addr %q: the port is not a number", addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if err := free(addr); err != nil {
		return nil, err
	}
	payload := max(cfg.payload(), 2<<20)
	check := &natsCheck{each: cfg.NATSConnsPerAddress, log: log, by: map[string]map[uint64]bool{}}
	s, err := server.NewServer(&server.Options{
		ServerName: "xmq", Host: host, Port: port,
		NoLog: true, NoSigs: true, NoSystemAccount: true,
		MaxConn: conns, MaxSubs: 64, MaxControlLine: 1024,
		MaxPayload: int32(payload), MaxPending: max(2*int64(payload), min(64<<20, cfg.MemoryLimit/8)),
		WriteDeadline: 5 * time.Second, AuthTimeout: 2, CustomClientAuthentication: check,
		PingInterval: 5 * time.Second, MaxPingsOut: 2,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	check.server = s
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, say(errTemporary, "nats_addr: the embedded NATS server does not listen on %s after 10 s: look at the "+
			"machine's load", addr)
	}
	return s, nil
}

// free finds out at once and in words whether an address can be listened on: the server itself would only log it.
func free(addr string) error {
	l, err := listen("nats_addr", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// listen takes the address, which the knob key gives, and waits a moment for a process that is ending to free it.
func listen(key, addr string) (l net.Listener, err error) {
	err = disk.Outwait(syscall.EADDRINUSE, func() error {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, cannotListen(key, addr, err)
	}
	return l, nil
}

func cannotListen(key, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return say(errTemporary, "%s: cannot listen on %s, it is in use already: stop the other process or choose another "+
			"address", key, addr)
	}
	return say(errTemporary, "%s: cannot listen on %s: %v", key, addr, err)
}
