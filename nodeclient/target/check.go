package target

import (
	"fmt"
	"strings"

	"xmq/nodeclient/target/mysql"
	"xmq/nodeclient/target/postgres"
	"xmq/nodeclient/target/sqlite"
)

// Dialects are the names that Check knows, for people.
const Dialects = "sqlite, postgres, mariadb or mysql"

var checks = map[string]func(body []byte) error{"sqlite": sqlite.Check, "postgres": postgres.Check,
	"mysql": mysql.Check}

// Check returns the function by which nodes of a dialect refuse an increment before they ask their database: nil
// for one that they
// try. It needs no database, and its errors name the line where they can. The names are those of target URLs.
func Check(dialect string) (func(body []byte) error, error) {
	name := strings.ToLower(dialect)
	if other := synonyms[name]; other != "" {
		name = other
	}
	if check := checks[name]; check != nil {
		return check, nil
	}
	return nil, fmt.Errorf("a dialect is %s, not %.40q", Dialects, dialect)
}
