package postgres

import (
	"context"
	"hash/maphash"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The bounds of what is remembered of statements.
const (
	maxTemplates = 256
	maxSeen      = 4096
)

// templates are the statements that a connection has prepared: those that came before with the very same text, as
// templates with arguments do. The server then neither parses nor analyses them again. They are forgotten whenever a
// statement may have changed the schema: the types of their parameters were found for the old one.
type templates struct {
	c     *pgconn.PgConn // whose they are
	names map[string]string
	seen  map[uint64]struct{}
	seed  maphash.Seed
	next  int  // number of the next name: none is used twice
	dirty bool // what the server holds is not known, or of no more use
	// The statement move, whose tables are those of the server, outlives a change of the schema: its name, "" while it
	// is not prepared; whether it was sent as text; whether the server may hold names of it that are not used any more.
	move   string
	tried  bool
	wasted bool
}

// on makes t ready for connection c. It costs a round trip when there is something to forget.
func (t *templates) on(ctx context.Context, c *pgconn.PgConn) error {
	if t.c != c {
		*t = templates{c: c, names: map[string]string{}, seen: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	}
	if !t.dirty {
		return nil
	}
	t.dirty = false
	if len(t.names) == 0 && !t.wasted {
		return nil
	}
	clear(t.names)
	t.move, t.wasted = "", false
	return execute(ctx, c, "DEALLOCATE ALL")
}

// prepares says how st is to be sent: by the name of a prepared statement, which is to be made first when fresh is
// true; or by its text, when name is "".
func (t *templates) prepares(st *statement) (name string, fresh bool) {
	switch {
	case st.text == move:
		return t.moves()
	case t.dirty:
		return "", false
	case !st.plain:
		t.dirty = t.dirty || st.changes
		return "", false
	}
	if name := t.names[st.text]; name != "" {
		return name, false
	}
	key := maphash.String(t.seed, st.text)
	if _, again := t.seen[key]; !again || len(t.names) == maxTemplates {
		if len(t.seen) == maxSeen {
			clear(t.seen)
		}
		t.seen[key] = struct{}{}
		return "", false
	}
	t.next++
	name = "xmq" + strconv.Itoa(t.next)
	t.names[st.text] = name
	return name, true
}

// moves is prepares for the statement move.
func (t *templates) moves() (name string, fresh bool) {
	switch {
	case t.move != "":
		return t.move, false
	case !t.tried:
		t.tried = true
		return "", false
	}
	t.next++
	t.move = "xmq" + strconv.Itoa(t.next)
	return t.move, true
}

// failed says that a transaction came to nothing: which of its statements were prepared is not known.
func (t *templates) failed() {
	t.dirty, t.wasted = true, t.wasted || t.move != ""
	t.move, t.tried = "", false
}

// kinds tells what a statement that begins with keyword is to templates: plain ones may be prepared, all others may
// change the schema, if only by a function they call.
func kinds(keyword, text string) (plain, changes bool) {
	switch keyword {
	case "INSERT", "UPDATE", "DELETE":
		return !strings.Contains(strings.ToLower(text), "returning"), false // the columns of an answer may not change
	}
	return false, true
}
