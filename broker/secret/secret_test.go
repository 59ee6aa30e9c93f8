package secret

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAURLIsShownWithoutItsSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"nats://u:secret@h:1,tls://g":                  "nats://u:xxxxx@h:1,tls://g",
		"nats://secret@h:1, tls://u:secret@g":          "nats://xxxxx@h:1,tls://u:xxxxx@g",
		"nats://127.0.0.1:4222":                        "nats://127.0.0.1:4222",
		"http://ops:secret@h/hook/secret?token=secret": "http://ops:xxxxx@h/...?...",
		"https://h/a,secret":                           "https://h/...",
		"http://127.0.0.1:8420":                        "http://127.0.0.1:8420",
		"http://h/":                                    "http://h/",
		"webhook:http://u:secret@h/secret#dump=http%3A%2F%2Fh%2Fsecret": "webhook:http://u:xxxxx@h/...",
		"postgres://u:se%2Fcret@h/db?password=secret":                   "postgres://u:xxxxx@h/db?...",
		"redis://:secret@h/0":          "redis://:xxxxx@h/0",
		"http://u:se/cret@h/":          "http://xxxxx",
		"nats://u:secret%zz@h":         "nats://xxxxx",
		"ftp://ops:secret@h/secret":    "ftp://ops:xxxxx@h/...",
		"nats://h/secret":              "nats://h/...",
		"u:secret@h:4222":              "xxxxx@h:4222",
		"secret@h":                     "xxxxx@h",
		"nats:u:secret@h,nats://g":     "xxxxx@h,nats://g",
		"sqlite:a/b.db":                "sqlite:a/b.db",
		"kv:b@c":                       "kv:b@c",
		"exec:curl http://u:secret@h/": "exec:curl http://u:xxxxx@h/",
		"kv:http://u:secret@h":         "kv:http://u:xxxxx@h",
		"file:a/http:/u:secret@h":      "file:a/http:/u:xxxxx@h",
	} {
		require.Equal(t, want, URL(text), text)
		require.Equal(t, strings.Contains(text, "secret") || strings.Contains(text, "cret"), Has(text), text)
	}
	require.True(t, Has("webhook:http://h/#dump=http%3A%2F%2Fu%3Asecret%40h"))
	require.False(t, Has("sqlite:a:b@c"))
	require.False(t, Has("exec:echo a@b"))
}

// However a library writes the URL that it was given, nothing of its secrets is left, and the error is still the same.
func TestAnErrorIsHandedOnWithoutTheSecretsOfItsURL(t *testing.T) {
	const pass, token = "S3cr/et+p w\"1", "T0KEN-IN-PATH"
	target := (&url.URL{Scheme: "http", User: url.UserPassword("ops", pass), Host: "127.0.0.1:1", Path: "/hook/" + token,
		RawQuery: "k=" + token}).String()
	u, err := url.Parse(target)
	require.NoError(t, err)
	_, refused := http.Get(target)
	require.Error(t, refused)
	b64 := base64.StdEncoding.EncodeToString([]byte("ops:" + pass))
	for _, said := range []error{refused, &url.Error{Op: "parse", URL: target, Err: fs.ErrInvalid},
		fmt.Errorf("%q cannot be dialled", target), fmt.Errorf("%s", u.Redacted()),
		fmt.Errorf("wrong password %q", pass), fmt.Errorf("wrong password %s", pass),
		fmt.Errorf("Authorization: Basic %s", b64), fmt.Errorf("POST %s: 404", u.RequestURI()), fmt.Errorf("POST %s", u.Path),
		fmt.Errorf("ops:%s@tcp(h)", url.QueryEscape(pass)), errors.New("other nats://u:" + "pw" + "@h")} {
		shown := Hide(said, target, "nats://a,nats://tok3n@h").Error()
		for _, s := range []string{pass, token, url.QueryEscape(pass), url.PathEscape(pass), b64, ":pw@", "S3cr"} {
			require.NotContains(t, shown, s, said.Error())
		}
		require.ErrorIs(t, Hide(said, target), said)
	}
	require.Equal(t, "authorization of xxxxx failed",
		Hide(errors.New("authorization of tok3n failed"), "nats://a, nats://tok3n@h").Error())
	require.NotContains(t, Hide(errors.New("GET http://h/"+token), "webhook:http://a/#load="+
		url.QueryEscape("http://h/"+token)).Error(), token)
	plain := errors.New("nothing to hide, another node uses /tmp/a/n2.db")
	require.Same(t, plain, Hide(plain, target))
	for _, local := range []string{"sqlite:/tmp/a/n2.db", "kv:/tmp/a", "/tmp/a/n2.db", "exec:/tmp/a/n2.db"} {
		require.Same(t, plain, Hide(plain, local), "a path is no secret")
	}
	require.NoError(t, Hide(nil, target))
}
