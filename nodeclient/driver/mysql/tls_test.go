package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"xmq/nodeclient/driver/servertest/mysqltest"
)

// certificate makes a certificate for 127.0.0.1 that signs itself, and its key, in a folder that other users may read.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o644))
	return cert, key
}

// The connection is encrypted when the URL says so, to a server whose certificate fits only.
func TestTheRoadMayBeEncrypted(t *testing.T) {
	cert, key := certificate(t)
	own := mysqltest.New(t, "--ssl-cert="+cert, "--ssl-key="+key)
	own.Create(t, "d")
	for setting, cipher := range map[string]bool{"?ca=" + cert: true, "?tls=true&ca=" + cert: true,
		"?tls=skip-verify": true, "?tls=false": false, "": false} {
		target, err := Open(t.Context(), own.URL("d")+setting, Options{})
		require.NoError(t, err, setting)
		rows, err := target.s.query(t.Context(), "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
		require.NoError(t, err)
		require.Equal(t, cipher, rows[0][1] != "", setting)
		require.NoError(t, target.Close())
	}
	_, err := Open(t.Context(), own.URL("d")+"?tls=true", Options{})
	require.ErrorContains(t, err, "certificate")
	other, _ := certificate(t)
	_, err = Open(t.Context(), own.URL("d")+"?ca="+other, Options{})
	require.ErrorContains(t, err, "certificate")
	require.NotContains(t, err.Error(), "word of")
	_, err = Open(t.Context(), own.URL("d")+"?ca="+key, Options{})
	require.ErrorContains(t, err, "holds no certificate")
}
