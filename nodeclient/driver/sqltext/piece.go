package sqltext

import (
	"fmt"

	"xmq/broker/form"
)

// Piece is a part of an increment that is read by itself: a script, or one statement with its arguments.
type Piece struct {
	Text   string
	Args   []form.Arg
	Object bool // it came as {"sql", "args"}: it is one statement, and its placeholders stand for Args
	Number int  // its place in a {"tx"}, from 1; 0 elsewhere
}

// Pieces takes an increment apart: all of a script, the statement of {"sql", "args"}, or those of {"tx"}.
func Pieces(body []byte) ([]Piece, error) {
	if !form.Is(body) {
		return []Piece{{Text: string(body)}}, nil
	}
	statements, tx, err := form.Parse(body)
	if err != nil {
		return nil, err
	}
	all := make([]Piece, len(statements))
	for i, st := range statements {
		all[i] = Piece{Text: st.SQL, Args: st.Args, Object: true}
		if tx {
			all[i].Number = i + 1
		}
	}
	return all, nil
}

// Bound is a piece with its arguments written into its text.
func (p Piece) Bound(d Dialect) (Piece, error) {
	if !p.Object {
		return p, nil
	}
	text, err := Bind(d, p.Text, p.Args)
	p.Text, p.Args = text, nil
	return p, err
}

// Statements are those of the piece as part of an increment: see Increment.
func (p Piece) Statements(d Dialect) ([]Statement, error) {
	all, err := Increment(d, p.Text)
	if err != nil {
		return nil, err
	}
	if p.Object && len(all) != 1 {
		return nil, fmt.Errorf(`"sql" has %d statements, and arguments belong to exactly one: write `+
			`{"tx": [{"sql": ..., "args": [...]}, ...]}`, len(all))
	}
	for i := range all {
		all[i].Number = p.Number
	}
	return all, nil
}

// In is an error about the piece, with its number where it has one; nil stays nil.
func (p Piece) In(err error) error {
	if err == nil || p.Number == 0 {
		return err
	}
	return fmt.Errorf("statement %d: %w", p.Number, err)
}

// Where says where a statement of an increment stands: "line 3", "statement 2".
func (st Statement) Where() string {
	switch {
	case st.Number > 0 && st.Line > 1:
		return fmt.Sprintf("line %d of statement %d", st.Line, st.Number)
	case st.Number > 0:
		return fmt.Sprintf("statement %d", st.Number)
	}
	return fmt.Sprintf("line %d", st.Line)
}

// Unbound refuses a statement of a script that has placeholders: nothing stands for them.
func Unbound(d Dialect, st Statement) error {
	if !st.holes {
		return nil
	}
	tokens, err := Tokens(d, st.Text)
	if err != nil {
		return err
	}
	for i := range tokens {
		if name, _ := placeholder(d, st.Text, tokens, i); name != "" {
			return fmt.Errorf(`it has the placeholder %s and no arguments: send {"sql": ..., "args": [...]}`, name)
		}
	}
	return nil
}
