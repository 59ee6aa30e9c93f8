package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"xmq/broker/bus"
)

// The NATS server as the chapter of operating sets it up, with TLS, a certificate of an authority of one's own and the
// rights of each user: a node speaks for its own ID only, and so does a producer.
func TestTheServerOfTheChapterOfOperatingKeepsIDsApart(t *testing.T) {
	chapter, err := os.ReadFile("../../configs/OPERATING.md")
	require.NoError(t, err)
	_, conf, found := strings.Cut(string(chapter), "```text\nlisten: 0.0.0.0:4222\n")
	require.True(t, found)
	conf, _, found = strings.Cut(conf, "\n\nxmq broker ")
	require.True(t, found)
	conf = "listen: \"127.0.0.1:-1\"\n" + strings.NewReplacer("cert.pem", "'"+certFile+"'", "key.pem", "'"+keyFile+"'",
		"password: ...", "password: secret").Replace(conf)
	path := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	o, err := server.ProcessConfigFile(path)
	require.NoError(t, err)
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(time.Minute))
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })

	dial := func(user string) bus.Conn {
		c, err := bus.Dial("tls://"+user+":secret@"+s.Addr().String(), user)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		for !c.Up() {
			changes(t, c)
		}
		return c
	}
	broker, fra, orders := dial("broker"), dial("fra"), dial("orders")
	heard := make(chan string, 10)
	_, err = broker.Subscribe("xmq.main.up.*", func(m bus.Msg) { heard <- m.Subject })
	require.NoError(t, err)
	_, err = broker.Subscribe("xmq.main.pub.*", func(m bus.Msg) {
		heard <- m.Subject
		_ = broker.Publish(m.Reply, []byte("42"))
	})
	require.NoError(t, err)
	_, err = broker.Request(t.Context(), "xmq.main.nobody", nil) // what was subscribed to before is known to the server
	require.ErrorIs(t, err, bus.ErrNobody)

	for _, c := range []struct {
		conn        bus.Conn
		own, others string
	}{
		{fra, "xmq.main.up.fra", "xmq.main.up.sgp"},
		{fra, "xmq.main.up.fra", "xmq.main.pub.orders"},
		{orders, "xmq.main.pub.orders", "xmq.main.up.fra"},
	} {
		require.NoError(t, c.conn.Publish(c.others, nil))
		for trouble := c.conn.Trouble(); trouble == nil || !strings.Contains(trouble.Error(), c.others); {
			changes(t, c.conn)
			trouble = c.conn.Trouble()
		}
		if c.conn == fra {
			require.NoError(t, fra.Publish(c.own, nil))
		} else {
			answer, err := c.conn.Request(t.Context(), c.own, nil)
			require.NoError(t, err)
			require.Equal(t, "42", string(answer.Data))
		}
		require.Equal(t, c.own, <-heard, "and nothing before it")
	}
}

// changes waits for news of a connection.
func changes(t *testing.T, c bus.Conn) {
	t.Helper()
	select {
	case <-c.Changes():
	case <-time.After(2 * time.Minute):
		t.Fatalf("nothing changes: %v", c.Trouble())
	}
}

// The certificate of the servers with TLS that the tests start, and its key: SSL_CERT_FILE of this process, which is
// read once, names it as the only authority.
var certFile, keyFile string

// certificate makes a certificate for 127.0.0.1 that is its own authority, and its key.
func certificate(cert, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
