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
	conn  *pgconn.PgConn // whose they are
	names map[string]string
	seen  map[uint64]struct{}
	seed  maphash.Seed
	next  int  // number of the next name: none is used twice
	dirty bool // what the server holds is not known, or of no more use
	// The driver's own questions, whose tables are those of the server, outlive a change of the schema: their names, ""
	// for one that was sent as a text once; whether the server may hold names of them that are not used any more.
	own    map[string]string
	wasted bool
}

// questions are those questions.
var questions = map[string]bool{move: true, moveDirect: true, askBeyond: true, changed: true, probing: true}

// on makes t ready for connection c. It costs a round trip when there is something to forget.
func (t *templates) on(ctx context.Context, c *pgconn.PgConn) error {
	t.of(c)
	if !t.dirty {
		return nil
	}
	t.dirty = false
	if len(t.names) == 0 && !t.wasted {
		return nil
	}
	clear(t.names)
	clear(t.own)
	t.wasted = false
	return execute(ctx, c, "DEALLOCATE ALL")
}

// of makes t that of connection c.
func (t *templates) of(c *pgconn.PgConn) {
	if t.conn != c {
		*t = templates{conn: c, names: map[string]string{}, own: map[string]string{}, seen: map[uint64]struct{}{},
			seed: maphash.MakeSeed()}
	}
}

// prepares says how st is to be sent: by the name of a prepared statement, which is to be made first when fresh is
// true; or by its text, when name is "".
func (t *templates) prepares(st *statement) (name string, fresh bool) {
	switch {
	case questions[st.text]:
		return t.asks(st.text)
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

// asks is prepares for one of questions.
func (t *templates) asks(text string) (name string, fresh bool) {
	name, tried := t.own[text]
	switch {
	case name != "":
		return name, false
	case !tried:
		t.own[text] = ""
		return "", false
	}
	t.next++
	t.own[text] = "xmq" + strconv.Itoa(t.next)
	return t.own[text], true
}

// named reports whether one of questions is prepared.
func (t *templates) named() bool {
	for _, name := range t.own {
		if name != "" {
			return true
		}
	}
	return false
}

// failed says that a transaction came to nothing: which of its statements were prepared is not known.
func (t *templates) failed() {
	t.dirty, t.wasted = true, t.wasted || t.named()
	clear(t.own)
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
