package mysql

import (
	"context"
	"fmt"
	"strings"
)

// learnPowers keeps what the user may do beyond the database.
func (t *Database) learnPowers(ctx context.Context) error {
	rows, err := t.s.query(ctx, "SHOW GRANTS")
	if err != nil {
		return classify(fmt.Errorf("mysql: ask what the user may do: %w", err))
	}
	t.powers = ""
	for _, row := range rows {
		grant := strings.ToUpper(row[0])
		if !strings.Contains(grant, " ON *.* ") {
			continue
		}
		for _, right := range []string{"ALL PRIVILEGES", "SUPER", "FILE"} {
			if strings.Contains(grant, "GRANT "+right) || strings.Contains(grant, ", "+right) {
				name := t.cfg.DBName
				t.powers = fmt.Sprintf("the user %q has %s on the whole server, so that an increment can reach files and "+
					"settings of the database's machine: "+
					"make one with rights on this database and no more (GRANT ALL ON `%s`.* TO ...; GRANT ALL ON `%s\\_xmq\\_%%`.* "+
					"TO ...)", t.cfg.User, right, name, name)
				return nil
			}
		}
	}
	return nil
}

// Powers says, as one sentence, what an increment could do beyond the database, since the user may; "" when nothing.
// It is what the user had at Open, for a log.
func (t *Database) Powers() string { return t.powers }
