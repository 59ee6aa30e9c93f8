package driver

import (
	"fmt"
	"strings"

	"xmq/nodeclient/driver/mysql"
	"xmq/nodeclient/driver/postgres"
	"xmq/nodeclient/driver/sqlite"
)

// Dialects are the names that Check knows, for people.
const Dialects = "sqlite, postgres, mariadb or mysql"

// words are the names of dialects as people write them.
var words = map[string]string{"sqlite": "sqlite", "sqlite3": "sqlite", "postgres": "postgres", "postgresql": "postgres",
	"pg":      "postgres",
	"mariadb": "mariadb", "mysql": "mysql"}

// Dialect is the dialect that a word of people means: sqlite, postgres, mariadb or mysql.
func Dialect(word string) (name string, known bool) {
	name, known = words[strings.ToLower(word)]
	return name, known
}

var checks = map[string]func(body []byte) error{"sqlite": sqlite.Check, "postgres": postgres.Check,
	"mariadb": mysql.Check,
	"mysql":   mysql.Check}

// Check returns the function by which nodes of a dialect refuse an increment before they ask their database: nil for
// one that they try. What is sent by accident and does nothing, or not what it should, is refused as well. It needs
// no database, and its errors name the line where they can. Dialect says which words it knows.
func Check(dialect string) (func(body []byte) error, error) {
	if name, known := Dialect(dialect); known {
		return func(body []byte) error {
			if err := mistake(name, body); err != nil {
				return err
			}
			return checks[name](body)
		}, nil
	}
	return nil, fmt.Errorf("a dialect is %s, not %.40q", Dialects, dialect)
}
