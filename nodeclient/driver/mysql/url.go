package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
)

// maxName is how many characters a name may have.
const maxName = 64

// connectTime is how long a connection may take to come about.
const connectTime = 10 * time.Second

var errURL = errors.New("mysql: the target URL cannot be read: write mysql://USER@HOST:PORT/DATABASE, the password " +
	"percent-encoded or in MYSQL_PWD")

// parseURL makes a configuration of a target URL; doc.go says what it may hold. No error shows the password.
func parseURL(rawURL string) (*mysql.Config, error) {
	u, err := url.Parse(rawURL)
	// its text may hold the password
	if err != nil || u.Scheme != "mysql" && u.Scheme != "mariadb" || u.Opaque != "" || u.Fragment != "" {
		return nil, errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errURL
	}
	for key := range query {
		if !slices.Contains([]string{"tls", "ca", "socket"}, key) {
			return nil, fmt.Errorf("mysql: the target URL has the setting %q, and only tls, ca and socket are known", key)
		}
	}
	cfg := mysql.NewConfig()
	cfg.User = u.User.Username()
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	if cfg.User == "" || cfg.DBName == "" || strings.Contains(cfg.DBName, "/") {
		return nil, errURL
	}
	if most := maxName - len(restoreName("")); !utf8.ValidString(cfg.DBName) ||
		utf8.RuneCountInString(cfg.DBName) > most || slices.Contains(systemDatabases, strings.ToLower(cfg.DBName)) {
		return nil, fmt.Errorf("mysql: the database %q cannot be a target: it must not be one of the server's own, and "+
			"its name must be at most %d characters long", cfg.DBName, most)
	}
	if password, set := u.User.Password(); set {
		cfg.Passwd = password
	} else {
		cfg.Passwd = os.Getenv("MYSQL_PWD")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "3306"
	}
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, port)
	if socket := query.Get("socket"); socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	}
	if cfg.TLS, err = tlsConfig(query.Get("tls"), query.Get("ca"), host); err != nil {
		return nil, err
	}
	cfg.Timeout = connectTime
	cfg.MultiStatements, cfg.ClientFoundRows = true, true
	cfg.MaxAllowedPacket = 1 << 30       // the server's own limit is asked for, and kept
	cfg.Collation = "utf8mb4_general_ci" // every server knows it; pins set the one of increments
	cfg.ConnectionAttributes = "program_name:xmq"
	cfg.Logger = &mysql.NopLogger{}
	return cfg, nil
}

// systemDatabases are the server's own.
var systemDatabases = []string{"mysql", "information_schema", "performance_schema", "sys"}

// tlsConfig is what the tls and ca settings of a URL ask for; nil for a connection without TLS.
func tlsConfig(mode, ca, host string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("mysql: the certificates that the target URL names: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mysql: the file %s holds no certificate", ca)
		}
		if mode == "" {
			mode = "true"
		}
	}
	switch mode {
	case "", "false":
		return nil, nil
	case "true":
		return cfg, nil
	case "skip-verify":
		cfg.InsecureSkipVerify = true
		return cfg, nil
	}
	return nil, fmt.Errorf("mysql: the setting tls of the target URL is %q, and must be true, false or skip-verify", mode)
}
