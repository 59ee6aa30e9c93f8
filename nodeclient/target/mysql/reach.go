package mysql

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"xmq/nodeclient/target/sqltext"
)

// counter is something that gives numbers and is not rolled back: the AUTO_INCREMENT of a table, or a sequence.
type counter struct {
	name   string
	column string // of the table; "" for a sequence
	cache  int    // of a sequence: how many numbers the server takes at once
}

// reach says which counters a statement may move that names something: the table itself, and what triggers, routines,
// views, defaults and foreign keys lead to. Words decide, so that it is rather too much than too little.
type reach struct {
	counters []counter
	tables   int // of the database
	things   map[string]*thingReach
}

// thingReach is what one name leads to. All are indexes of reach.counters.
type thingReach struct {
	own    []int    // tables, or a sequence, of the name itself
	called []int    // what its triggers, its body or its defaults may touch
	fallen []int    // what deleting from it, or changing its keys, may change through foreign keys
	keys   []string // columns of it that foreign keys refer to
}

// edges are names that lead to names. A body that puts its statements together leads to everything.
type edges struct {
	names map[string][]string
	all   map[string]bool
}

// reachQuestions are those of learnReach.
const reachQuestions = "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = " +
	"database(); " +
	"SELECT table_name, column_name, extra, coalesce(column_default, '') FROM information_schema.columns WHERE " +
	"table_schema = database() " +
	"AND (extra LIKE '%auto_increment%' OR column_default LIKE '%nextval(%'); " +
	"SELECT routine_name, routine_body = 'SQL' AND routine_definition IS NOT NULL, coalesce(routine_definition, " +
	"'') FROM information_schema.routines " +
	"WHERE routine_schema = database(); " +
	"SELECT event_object_table, action_statement IS NOT NULL, coalesce(action_statement, ''), action_timing FROM " +
	"information_schema.triggers WHERE trigger_schema = database(); " +
	"SELECT table_name, coalesce(view_definition, '') <> '', coalesce(view_definition, '') FROM " +
	"information_schema.views WHERE table_schema = database(); " +
	"SELECT referenced_table_name, table_name, referenced_column_name FROM information_schema.key_column_usage " +
	"WHERE constraint_schema = database() AND referenced_table_name IS NOT NULL"

// learnReach reads what gives numbers in the database of s, and what leads to it.
func learnReach(ctx context.Context, s *session) (*reach, error) {
	sets, err := s.results(ctx, reachQuestions)
	if err != nil {
		return nil, err
	}
	r := &reach{things: map[string]*thingReach{}}
	thing := func(name string) *thingReach {
		name = strings.ToLower(name)
		if r.things[name] == nil {
			r.things[name] = &thingReach{}
		}
		return r.things[name]
	}
	add := func(c counter) {
		t := thing(c.name)
		t.own = append(t.own, len(r.counters))
		r.counters = append(r.counters, c)
	}
	for _, row := range sets[0] {
		thing(row[0])
		switch row[1] {
		case "BASE TABLE":
			r.tables++
		case "SEQUENCE":
			add(counter{name: row[0]})
		}
	}
	calls := edges{map[string][]string{}, map[string]bool{}}
	for _, row := range sets[1] {
		if strings.Contains(strings.ToLower(row[2]), "auto_increment") {
			if row[0] != table {
				add(counter{name: row[0], column: strings.ToLower(row[1])})
			}
		} else {
			calls.add(row[0], row[3], true)
		}
	}
	for _, set := range sets[2:5] {
		for _, row := range set {
			thing(row[0])
			calls.add(row[0], row[2], row[1] == "1")
		}
	}
	for _, row := range sets[3] { // a trigger before the change may write the column of its own table: NEW.id
		name := strings.ToLower(row[0])
		writes := func(i int) bool { return slices.Contains(calls.names[name], r.counters[i].column) }
		if row[3] == "BEFORE" && slices.ContainsFunc(thing(name).own, writes) {
			calls.names[name] = append(calls.names[name], name)
		}
	}
	falls := edges{map[string][]string{}, map[string]bool{}}
	for _, row := range sets[5] {
		parent := strings.ToLower(row[0])
		falls.names[parent] = append(falls.names[parent], strings.ToLower(row[1]))
		thing(parent).keys = append(thing(parent).keys, strings.ToLower(row[2]))
	}
	if err := r.caches(ctx, s); err != nil {
		return nil, err
	}
	for name, t := range r.things {
		t.called = r.leadsTo(name, calls, falls, calls)
		t.fallen = r.leadsTo(name, falls, falls, calls)
	}
	return r, nil
}

// caches asks the sequences for theirs.
func (r *reach) caches(ctx context.Context, s *session) error {
	var sequences []*counter
	var script []string
	for i := range r.counters {
		if c := &r.counters[i]; c.column == "" {
			sequences = append(sequences, c)
			script = append(script, "SELECT cache_size FROM "+quoteName(c.name))
		}
	}
	if len(script) == 0 {
		return nil
	}
	sets, err := s.results(ctx, strings.Join(script, "; "))
	for i := 0; err == nil && i < len(sets); i++ {
		sequences[i].cache, err = strconv.Atoi(sets[i][0][0])
	}
	return err
}

// add reads the names in a text; one that cannot be read may name everything.
func (e *edges) add(name, text string, readable bool) {
	name = strings.ToLower(name)
	tokens, err := sqltext.Tokens(sqltext.MariaDB, text)
	var t touch
	t.mention(tokens)
	e.names[name] = append(e.names[name], t.names...)
	if !readable || err != nil || slices.ContainsFunc(t.names, dynamic) {
		e.all[name] = true
	}
}

// dynamic reports whether a word runs statements that are put together when it runs.
func dynamic(word string) bool { return word == "execute" || word == "prepare" }

// leadsTo are the counters that name leads to by an edge of first, and then by any.
func (r *reach) leadsTo(name string, first edges, further ...edges) []int {
	seen := map[string]bool{}
	var visit func(name string, by ...edges) bool
	visit = func(name string, by ...edges) bool {
		for _, e := range by {
			if e.all[name] {
				return true
			}
			for _, next := range e.names[name] {
				if r.things[next] != nil && !seen[next] {
					seen[next] = true
					if visit(next, further...) {
						return true
					}
				}
			}
		}
		return false
	}
	if visit(name, first) {
		return r.everything()
	}
	var all []int
	for next := range seen {
		all = append(all, r.things[next].own...)
	}
	return all
}

func (r *reach) everything() []int {
	all := make([]int, len(r.counters))
	for i := range all {
		all[i] = i
	}
	return all
}

// moved are the counters, in order and each once, that stand after steps where only they themselves say.
func (r *reach) moved(steps []step) []int {
	var marks []bool
	mark := func(all []int) {
		if marks == nil && len(all) > 0 {
			marks = make([]bool, len(r.counters))
		}
		for _, i := range all {
			marks[i] = true
		}
	}
	for i := range steps {
		for k := range steps[i].Work.touches {
			r.touched(&steps[i].Work.touches[k], mark)
		}
	}
	var all []int
	for i, is := range marks {
		if is {
			all = append(all, i)
		}
	}
	return all
}

func (r *reach) touched(t *touch, mark func([]int)) {
	for _, name := range t.names {
		if t.verb == "" && dynamic(name) {
			mark(r.everything())
		}
		is := r.things[name]
		if is == nil {
			continue
		}
		mark(is.called)
		insert := t.verb == "INSERT"
		if t.verb == "" || insert && t.rows == 0 && name == t.into || t.verb == "UPDATE" &&
			slices.ContainsFunc(is.keys, t.writes) {
			mark(is.fallen)
		}
		for k := range is.own {
			c := &r.counters[is.own[k]]
			if c.column == "" || t.verb == "" || len(is.called) > 0 && t.verb != "SELECT" ||
				t.verb == "UPDATE" && !t.exact(c.column) || insert && name == t.into && !t.exact(c.column) {
				mark(is.own[k : k+1])
			}
		}
	}
}

// few is how many tables of MariaDB are asked about one by one: it opens every table of the database for a question
// about several.
const few = 8

// nextNumber of a table is not there in MySQL before the table is used.
const nextNumber = "coalesce(auto_increment, 1)"

// value is an expression for where the counters with these indexes stand, as a JSON object; "" for none.
func (r *reach) value(database string, moved []int) string {
	var tables, pairs []string
	for _, i := range moved {
		c := r.counters[i]
		if c.column == "" {
			pairs = append(pairs, quoteText(c.name)+", (SELECT next_not_cached_value FROM "+quoteName(c.name)+")")
		} else {
			tables = append(tables, quoteText(c.name))
		}
	}
	from := "FROM information_schema.tables WHERE table_schema = " + quoteText(database) + " AND table_name "
	var objects []string
	switch {
	case len(tables) == 0:
	case len(tables)*few < r.tables || len(tables) == 1:
		for _, name := range tables {
			pairs = append(pairs, name+", (SELECT "+nextNumber+" "+from+"= "+name+")")
		}
	default:
		objects = append(objects, "coalesce((SELECT JSON_OBJECTAGG(table_name, "+nextNumber+") "+from+"IN "+
			"("+strings.Join(tables, ", ")+")), '{}')")
	}
	if len(pairs) > 0 {
		objects = append(objects, "JSON_OBJECT("+strings.Join(pairs, ", ")+")")
	}
	return strings.Join(objects, ", ")
}
