package mysql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// counter is something that gives numbers and is not rolled back: the AUTO_INCREMENT of a table, or a sequence.
type counter struct {
	name   string
	column string // of the table; "" for a sequence
	cache  int    // of a sequence: how many numbers the server takes at once
	// follows says that an INSERT of rows without keys moves it by their number, and that a path of JSON can name it.
	follows bool
}

// reach says which counters a statement may move that names something: the table itself, and what triggers, routines,
// views, defaults and foreign keys lead to. Words decide, so that it is rather too much than too little.
type reach struct {
	counters []counter
	tables   int // of the database
	things   map[string]*thingReach
	asks     asks // of all bodies, views, defaults, generated columns and checks
}

// thingReach is what one name leads to. All are indexes of reach.counters.
type thingReach struct {
	own    []int    // tables, or a sequence, of the name itself
	called []int    // what its triggers, its body or its defaults may touch
	fallen []int    // what deleting from it, or changing its keys, may change through foreign keys
	keys   []string // columns of it that foreign keys refer to
	lifted []string // those that carry changes into an AUTO_INCREMENT column, whose counter need not move along
}

// edges are names that lead to names. A body that puts its statements together leads to everything.
type edges struct {
	names map[string][]string
	all   map[string]bool
	asks  asks
}

// reachQuestions are those of learnReach.
const reachQuestions = "SELECT table_name, table_type, coalesce(create_options, '') FROM information_schema.tables " +
	"WHERE table_schema = " +
	"database(); " +
	"SELECT table_name, column_name, extra, coalesce(column_default, ''), coalesce(generation_expression, '') FROM " +
	"information_schema.columns WHERE table_schema = database() " +
	"AND (extra LIKE '%auto_increment%' OR column_default LIKE '%(%' OR generation_expression LIKE '%(%'); " +
	"SELECT routine_name, routine_body = 'SQL' AND routine_definition IS NOT NULL, coalesce(routine_definition, " +
	"'') FROM information_schema.routines " +
	"WHERE routine_schema = database(); " +
	"SELECT event_object_table, action_statement IS NOT NULL, coalesce(action_statement, ''), action_timing FROM " +
	"information_schema.triggers WHERE trigger_schema = database(); " +
	"SELECT table_name, coalesce(view_definition, '') <> '', coalesce(view_definition, '') FROM " +
	"information_schema.views WHERE table_schema = database(); " +
	"SELECT referenced_table_name, table_name, referenced_column_name, column_name FROM " +
	"information_schema.key_column_usage " +
	"WHERE constraint_schema = database() AND referenced_table_name IS NOT NULL; " +
	"SELECT check_clause FROM information_schema.check_constraints WHERE constraint_schema = database()"

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
	parted := map[string]bool{}
	for _, row := range sets[0] {
		thing(row[0])
		parted[row[0]] = strings.Contains(row[2], "partitioned")
		switch row[1] {
		case "BASE TABLE":
			r.tables++
		case "SEQUENCE":
			add(counter{name: row[0]})
		}
	}
	calls := edges{names: map[string][]string{}, all: map[string]bool{}}
	var expressions []string
	for _, row := range sets[1] {
		if strings.Contains(strings.ToLower(row[2]), "auto_increment") {
			if row[0] != table {
				add(counter{name: row[0], column: strings.ToLower(row[1]),
					follows: !parted[row[0]] && !strings.ContainsAny(row[0], "\"\\")})
			}
			continue
		}
		if strings.Contains(strings.ToLower(row[3]), "nextval(") {
			calls.add(row[0], row[3], true)
		}
		expressions = append(expressions, row[3], row[4])
	}
	for _, set := range sets[2:5] {
		for _, row := range set {
			thing(row[0])
			calls.add(row[0], row[2], row[1] == "1")
		}
	}
	for _, row := range sets[6] {
		expressions = append(expressions, row[0])
	}
	for _, text := range expressions {
		tokens, _ := meaningful(text) // the server itself wrote it
		r.asks.add(asksOf(tokens))
	}
	r.asks.add(calls.asks)
	r.asks.last = r.asks.last && slices.ContainsFunc(r.counters, func(c counter) bool { return c.column == "" })
	for _, row := range sets[3] { // a trigger before the change may write the column of its own table: NEW.id
		name := strings.ToLower(row[0])
		writes := func(i int) bool { return slices.Contains(calls.names[name], r.counters[i].column) }
		if row[3] == "BEFORE" && slices.ContainsFunc(thing(name).own, writes) {
			calls.names[name] = append(calls.names[name], name)
		}
	}
	falls := edges{names: map[string][]string{}, all: map[string]bool{}}
	for _, row := range sets[5] {
		parent := strings.ToLower(row[0])
		falls.names[parent] = append(falls.names[parent], strings.ToLower(row[1]))
		thing(parent).keys = append(thing(parent).keys, strings.ToLower(row[2]))
	}
	for more := true; more; { // a key may be carried on
		more = false
		for _, row := range sets[5] {
			parent, child := thing(row[0]), thing(row[1])
			key, column := strings.ToLower(row[2]), strings.ToLower(row[3])
			counts := func(i int) bool { return r.counters[i].column == column }
			if !slices.Contains(parent.lifted, key) &&
				(slices.ContainsFunc(child.own, counts) || slices.Contains(child.lifted, column)) {
				parent.lifted, more = append(parent.lifted, key), true
			}
		}
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
	tokens, err := meaningful(text)
	e.asks.add(asksOf(tokens))
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

// unknown is how many numbers a counter has given when nobody knows.
const unknown = -1

// change is what statements do to a counter.
type change uint8

const (
	mayMove  change = 1 << iota // it stands after them where only it itself says
	mustTell                    // it is where it was, and the rows no longer say where that is
)

// follow says what is to be stored of counters after steps. gave is how many numbers each has given since what is
// stored of it was exact, in order, or unknown; nil is unknown of all. read are those that must be asked; told those
// that stand so many numbers further than stored; after is gave after the steps, when that is stored.
func (r *reach) follow(steps []step, gave []int) (read []int, told map[int]int, after []int) {
	if after = slices.Clone(gave); len(after) != len(r.counters) {
		after = slices.Repeat([]int{unknown}, len(r.counters))
	}
	marks := make([]change, len(r.counters))
	for i := range steps {
		for k := range steps[i].Work.touches {
			t := &steps[i].Work.touches[k]
			r.touched(t, func(all []int, c change) {
				for _, i := range all {
					marks[i] |= c
				}
			})
			r.given(t, after)
		}
	}
	for i, c := range marks {
		switch {
		case c == 0 || c == mustTell && after[i] == 0:
			continue
		case c&mayMove != 0 || after[i] == unknown:
			read = append(read, i)
		default:
			if told == nil {
				told = map[int]int{}
			}
			told[i] = after[i]
		}
		after[i] = 0
	}
	return read, told, after
}

// given counts what an INSERT takes from the counter of its table.
func (r *reach) given(t *touch, after []int) {
	is := r.things[t.into]
	if t.verb != "INSERT" || t.rows == 0 || is == nil {
		return
	}
	for _, i := range is.own {
		c := &r.counters[i]
		if c.follows && !t.away && t.named && !t.writes(c.column) && len(is.called) == 0 && after[i] != unknown {
			after[i] += t.rows
		} else {
			after[i] = unknown
		}
	}
}

// lifts reports whether a step may give an AUTO_INCREMENT column values by a foreign key: MariaDB then does not move
// the counter along, and what compares it moves it when it comes by.
func (r *reach) lifts(s step) bool {
	return slices.ContainsFunc(s.Work.touches, func(t touch) bool {
		return t.verb == "UPDATE" && slices.ContainsFunc(t.names, func(name string) bool {
			is := r.things[name]
			return is != nil && slices.ContainsFunc(is.lifted, t.writes)
		})
	})
}

func (r *reach) touched(t *touch, mark func([]int, change)) {
	for _, name := range t.names {
		if t.verb == "" && dynamic(name) {
			mark(r.everything(), mayMove)
		}
		is := r.things[name]
		if is == nil {
			continue
		}
		mark(is.called, mayMove)
		insert := t.verb == "INSERT"
		switch {
		case t.deletes, insert && t.rows == 0 && name == t.into: // rows that fall take no numbers along
			mark(is.fallen, mustTell)
		case t.verb == "", t.verb == "UPDATE" && slices.ContainsFunc(is.keys, t.writes):
			mark(is.fallen, mayMove)
		}
		for k := range is.own {
			c := &r.counters[is.own[k]]
			switch own := is.own[k : k+1]; {
			case t.deletes && c.column != "" && len(is.called) == 0:
				mark(own, mustTell)
			case c.column == "" || t.verb == "" || len(is.called) > 0 && t.verb != "SELECT" ||
				t.verb == "UPDATE" && !t.exact(c.column) || insert && name == t.into && !t.exact(c.column):
				mark(own, mayMove)
			}
		}
	}
}

// few is how many tables of MariaDB are asked about one by one: it opens every table of the database for a question
// about several.
const few = 8

// nextNumber of a table is not there in MySQL before the table is used.
const nextNumber = "coalesce(auto_increment, 1)"

// value is an expression for where the counters with the indexes moved stand, and those told so many numbers further
// than stored, as a JSON object; "" for none.
func (r *reach) value(database string, moved []int, told map[int]int) string {
	var tables, pairs []string
	for _, i := range slices.Sorted(maps.Keys(told)) {
		name := r.counters[i].name
		pairs = append(pairs, fmt.Sprintf("%s, CAST(JSON_UNQUOTE(JSON_EXTRACT(counters, %s)) AS UNSIGNED) + %d",
			quoteText(name),
			quoteText(`$."`+name+`"`), told[i]))
	}
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
