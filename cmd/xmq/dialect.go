package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"xmq/broker/api"
	"xmq/broker/server"
	"xmq/nodeclient/driver"
	"xmq/nodeclient/driver/sqltext"
)

// dialects are those whose SQL is read here, by the names that driver.Dialect gives.
var dialects = map[string]sqltext.Dialect{"sqlite": sqltext.SQLite, "postgres": sqltext.PostgreSQL,
	"mariadb": sqltext.MariaDB,
	"mysql":   sqltext.MariaDB}

// newProver learns by what the input is to be judged: the dialect that was named, or that of the nodes that will get
// it.
func newProver(c *cli.Context, p *publisher, in []source) (*prover, error) {
	pr := &prover{limit: c.Int("max-increment"), w: c.App.ErrWriter, seen: map[string]bool{}}
	name, given, err := p.dialect(c, in)
	if err != nil {
		return nil, err
	}
	pr.guard = name != "" || guessed(in)
	pr.dialect = dialects[name]
	if name != "" && !c.Bool("lines") {
		if pr.check, err = driver.Check(name); err != nil {
			return nil, err
		}
	}
	pr.lint = c.Bool("lint") && (given || slices.ContainsFunc(in, isScript))
	for _, s := range in {
		if s, is := s.(*script); is {
			s.mysql = name == "mysql"
		}
	}
	if pr.limit == 0 && !c.Bool("check") {
		var info api.LogInfo
		if err := p.insist(c.Context, func() error { return p.api.do(c.Context, "GET", "/v1/log", nil, &info) }); err != nil {
			return nil, err
		}
		pr.limit = info.MaxIncrement
	}
	if pr.limit == 0 {
		pr.limit = server.Default().MaxIncrement
	}
	return pr, nil
}

func isScript(s source) bool { _, is := s.(*script); return is }

// dialect is the name of the dialect of the input, and whether it was given; "" when nobody needs it or nobody knows
// it.
func (p *publisher) dialect(c *cli.Context, in []source) (name string, given bool, err error) {
	if c.IsSet("dialect") {
		name, known := driver.Dialect(c.String("dialect"))
		if !known {
			return "", false, usage("--dialect is %s, not %q", driver.Dialects, c.String("dialect"))
		}
		return name, true, nil
	}
	scripts := slices.ContainsFunc(in, isScript)
	guarded := slices.ContainsFunc(in, func(s source) bool { l, is := s.(*lines); return !is || !l.exact })
	if !scripts && !guarded {
		if c.Bool("check") {
			return "", false, usage("--check needs --dialect here: only a dialect says what nodes would refuse")
		}
		return "", false, nil
	}
	var now api.Positions
	if err := p.insist(c.Context, func() error {
		return p.api.do(c.Context, "GET", "/v1/positions", nil,
			&now)
	}); err != nil {
		if c.Bool("check") {
			err = fmt.Errorf("%w (with --dialect nothing is asked of a broker)", err)
		}
		return "", false, err
	}
	var names, products []string // products are those of the driver mysql; "" where a node does not tell
	for _, client := range now.Clients {
		gets := len(client.Topics) == 0 || slices.Contains(client.Topics, p.topic)
		name, sql := driver.Dialect(client.Target)
		if gets && sql && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if gets && name == "mysql" {
			products = append(products, client.Product)
		}
	}
	slices.Sort(names)
	slices.Sort(products)
	products = slices.Compact(products)
	switch {
	case len(names) == 1 && len(products) == 1 && dialects[products[0]] == sqltext.MariaDB:
		return products[0], false, nil
	case len(names) == 1 && names[0] == "mysql": // of both products, or of an earlier build, which does not tell
		return p.product(in)
	case len(names) == 1:
		return names[0], false, nil
	case !scripts && !c.Bool("check"):
		return "", false, nil
	case len(names) > 1:
		return "", false, usage("the nodes of this broker are of %s: say with --dialect for which the script is",
			strings.Join(names, " and "))
	}
	return "", false, usage("no node of an SQL database would get this, so nobody knows its dialect: say --dialect %s",
		driver.Dialects)
}

// product is the dialect of an input for nodes of MariaDB or MySQL, who differ in the comments that they execute.
func (p *publisher) product(in []source) (name string, given bool, err error) {
	for _, s := range in {
		s, is := s.(*script)
		if !is {
			continue
		}
		tells, err := s.products()
		if err != nil {
			return "", false, err
		}
		if tells {
			return "", false, usage("%s has comments that MariaDB and MySQL read differently: say --dialect mariadb or "+
				"--dialect mysql", s.name)
		}
	}
	return "mariadb", false, nil
}

// guessed reports whether lines for a group of an unknown dialect begin like SQL or JSON of several lines.
func guessed(in []source) bool {
	for _, s := range in {
		l, is := s.(*lines)
		if !is || l.exact {
			continue
		}
		looks, stop := false, errors.New("seen enough")
		_ = l.each(func(_ int, line []byte) error { // whoever proves it meets the same error
			if text := strings.TrimSpace(string(line)); text != "" {
				word, _, _ := strings.Cut(strings.ToUpper(text), " ")
				looks = slices.Contains([]string{"--", "ALTER", "BEGIN", "BEGIN;", "CREATE", "DELETE", "DROP", "INSERT", "UPDATE",
					"WITH"}, word) ||
					word[0] == '{' || strings.HasPrefix(word, "/*") || strings.HasPrefix(word, "--")
				return stop
			}
			return nil
		})
		if looks {
			return true
		}
	}
	return false
}
