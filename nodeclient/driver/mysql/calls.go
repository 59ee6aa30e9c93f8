package mysql

import (
	"context"
	"regexp"
	"strings"
)

// calls is what stands in the functions, procedures and triggers of a database, as far as it can change the session for the
// increments behind the one that calls it. The server undoes none of it: after a restart of the node the same increment
// would mean something else. Where there is anything to call, each increment is pinned anew.
type calls struct {
	any    bool   // there is something to call
	resets string // ", @a = NULL" for each variable of the session that a body names
	opaque bool   // a body makes temporary tables or cannot be read: the session ends behind each increment
}

// variables of the session, not of the system.
var variables = regexp.MustCompile("(^|[^@`\\w])@(\\w[\\w$.]*)")

// learn reads what can be called in the database of s.
func (t *Target) learn(ctx context.Context, s *session) error {
	rows, err := s.query(ctx, "SELECT routine_definition IS NULL, coalesce(routine_definition, '') FROM information_schema.routines WHERE routine_schema = database() "+
		"UNION ALL SELECT action_statement IS NULL, coalesce(action_statement, '') FROM information_schema.triggers WHERE trigger_schema = database()")
	if err != nil {
		return err
	}
	s.calls = calls{any: len(rows) > 0}
	for _, row := range rows {
		body := strings.ToLower(row[1])
		s.calls.opaque = s.calls.opaque || row[0] == "1" || strings.Contains(body, "temporary")
		for _, m := range variables.FindAllStringSubmatch(body, -1) {
			if name := m[2]; !strings.Contains(s.calls.resets+",", ", @"+name+" = NULL,") {
				s.calls.resets += ", @" + name + " = NULL"
			}
		}
	}
	return nil
}

// callable reports whether a change of the schema changes what can be called.
func (d *ddl) callable() bool {
	for _, kind := range []string{" TRIGGER", " FUNCTION", " PROCEDURE"} {
		if strings.HasSuffix(d.verb, kind) {
			return true
		}
	}
	return false
}
