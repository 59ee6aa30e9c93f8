package redis

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errURL says how a target URL is written. The error of parsing one may hold the password, so it is not shown.
var errURL = errors.New("redis: the target URL cannot be read: write redis://USER@HOST:PORT/DB, or rediss:// for " +
	"TLS, the password percent-encoded after USER: or in REDISCLI_AUTH")

// place is what a target URL says.
type place struct {
	options redis.Options // address, credentials, TLS
	db      int
	restore int // -1: not said
}

// parseURL reads redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?restore_db=N].
func parseURL(raw string) (p place, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Opaque != "" || u.Hostname() == "" ||
		u.Fragment != "" {
		return p, errURL
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return p, errURL
	}
	p.options.Addr = net.JoinHostPort(u.Hostname(), port)
	if u.Scheme == "rediss" {
		p.options.TLSConfig = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	p.options.Username = u.User.Username()
	var said bool
	if p.options.Password, said = u.User.Password(); !said {
		p.options.Password = os.Getenv("REDISCLI_AUTH")
	}
	if p.options.Username != "" && p.options.Password == "" {
		return p, errors.New("redis: the target URL names a user but no password: write it percent-encoded after USER: " +
			"or set REDISCLI_AUTH")
	}
	number := func(text string) (n int) {
		parsed, bad := strconv.ParseUint(text, 10, 31)
		if bad != nil {
			err = errors.New("redis: the target URL names no logical database: write its number, as in " +
				"redis://HOST:PORT/0?restore_db=15")
		}
		return int(parsed)
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		p.db = number(db)
	}
	p.restore = -1
	query, bad := url.ParseQuery(u.RawQuery)
	if bad != nil {
		return p, errURL
	}
	for key, values := range query {
		if key != "restore_db" || len(values) != 1 {
			return p, errors.New("redis: the target URL may end in ?restore_db=N, in nothing else")
		}
		p.restore = number(values[0])
	}
	if err == nil && p.restore == p.db {
		err = errors.New("redis: restore_db is the logical database in which a restore loads: it must not be the target " +
			"itself")
	}
	return p, err
}
