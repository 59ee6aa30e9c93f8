package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The dialect is that of the nodes that will get the input; where they do not tell it, nobody guesses. Nothing
// reaches the broker here: every input is refused, or only checked.
func TestTheDialectIsThatOfTheNodes(t *testing.T) {
	const file, pg, shop, my, lite = `{"id":"f","target":"file"}`, `{"id":"p","target":"postgres"}`,
		`{"id":"s","target":"sqlite","topics":["shop"]}`,
		`{"id":"m","target":"mysql"}`, `{"id":"l","target":"sqlite"}`
	const maria, eight, comment = `{"id":"a","target":"mysql","product":"mariadb"}`,
		`{"id":"e","target":"mysql","product":"mysql"}`, "CREATE TABLE t (a int /*!50705 , b int */); /*!50705 USE x */"
	const here = "INSERT INTO t VALUES ($1)"
	for _, c := range []struct {
		name, clients, in string
		words             []string
		code              int
		says              string
	}{
		{"PostgreSQL", pg + "," + file, "SET x = 1", []string{"--sql", "-"}, exitRefused, "SET X changes the connection"},
		{"PostgreSQL, lines", pg + "," + file, "SET x = 1", nil, exitRefused, "SET X changes the connection"},
		{"SQLite by its topic", pg + "," + shop, "VACUUM", []string{"--sql", "-", "--topic", "shop"}, exitUsage,
			"of postgres and sqlite: say with --dialect"},
		{"a topic of others", pg + "," + shop, "SELECT 1", []string{"--sql", "-"}, 0, "1 increment: nodes take all"},
		{"SQLite", lite, "PRAGMA journal_mode = OFF", []string{"--sql", "-"}, exitRefused, "PRAGMA journal_mode"},
		{"MariaDB or MySQL", my, "USE x", []string{"--sql", "-"}, exitRefused, "USE changes the database"},
		{"MariaDB or MySQL, with their comments", my, "/*!40101 SET NAMES utf8mb4 */;", []string{"--sql", "-"}, exitUsage,
			"say --dialect mariadb or --dialect mysql"},
		{"MariaDB, and its comments", maria + "," + file, comment, []string{"--sql", "-"}, 0, "1 increment: nodes take all"},
		{"MySQL, and its comments", eight, comment, []string{"--sql", "-"}, exitRefused, "USE changes the database"},
		{"MariaDB and MySQL", maria + "," + eight, comment, []string{"--sql", "-"}, exitUsage,
			"say --dialect mariadb or --dialect mysql"},
		{"MariaDB, and a node of an earlier build", maria + "," + my, comment, []string{"--sql", "-"}, exitUsage,
			"say --dialect mariadb or --dialect mysql"},
		{"none", file, "SELECT 1", []string{"--sql", "-"}, exitUsage, "nobody knows its dialect: say --dialect"},
		{"nobody", "", "SELECT 1", []string{"--sql", "-"}, exitUsage, "nobody knows its dialect: say --dialect"},
		{"named", "", "SET x = 1", []string{"--sql", "-", "--dialect", "pg"}, exitRefused, "SET X changes the connection"},
		{"a script in lines", pg, "INSERT INTO acct (id, n)\nVALUES ('multi', 1);\n", nil, exitRefused,
			"line 1 of stdin is no whole statement: its INSERT has no second half; it looks like a script"},
		{"JSON in lines", pg, "{\n\"sql\": \"SELECT 1\"\n}\n", nil, exitRefused,
			"line 1 of stdin is no whole statement: it is a piece of a JSON text"},
		{"the second line", lite, "SELECT *\nFROM t\n", nil, exitRefused,
			"line 2 of stdin is no whole statement: no statement begins with FROM"},
		{"a placeholder without arguments", pg, here, nil, exitRefused, "line 1 of stdin: line 1: it has the placeholder $1"},
	} {
		broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v1/positions":
				_, _ = fmt.Fprintf(w, `{"clients":[%s]}`, c.clients)
			case "/v1/log":
				_, _ = io.WriteString(w, `{"max_increment":1048576}`)
			default:
				t.Errorf("%s: %s %s", c.name, r.Method, r.URL)
			}
		}))
		words := append([]string{"publish", "--api", broker.URL}, c.words...)
		if c.code == 0 {
			words = append(words, "--check")
		}
		code, out, errs := call(t, c.in, words...)
		require.Equal(t, c.code, code, "%s: %s%s", c.name, out, errs)
		require.Contains(t, out+errs, c.says, c.name)
		broker.Close()
	}
}

// A FILE is one increment, and is read as lines and scripts are: what the nodes that will get it would refuse is not
// sent.
func TestAFileIsCheckedForTheNodesThatGetIt(t *testing.T) {
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/positions":
			_, _ = io.WriteString(w, `{"clients":[{"id":"p","target":"postgres","topics":["shop"]},{"id":"f","target":"file"}]}`)
		case "/v1/log":
			_, _ = io.WriteString(w, `{"max_increment":1048576}`)
		case "/v1/increments/batch":
			_, _ = io.WriteString(w, `{"first":1,"last":1,"count":1,"results":[{"seq":1}]}`)
		}
	}))
	defer broker.Close()
	path := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(path, []byte(`{"sqll": "SELECT 1"}`), 0o600))
	code, _, errs := call(t, "", "publish", "--api", broker.URL, "--topic", "shop", path)
	require.Equal(t, exitRefused, code)
	require.Contains(t, errs, `did you mean "sql"?`)
	code, _, errs = call(t, "", "publish", "--api", broker.URL, path) // nobody of SQL gets that
	require.Equal(t, 0, code, errs)
}
