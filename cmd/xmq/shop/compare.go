package shop

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver of the files compared
)

// Difference is returned by Compare when two databases are not equal; it says where first.
type Difference struct{ Text string }

func (d *Difference) Error() string { return d.Text }

// Compare compares two SQLite files table by table and row by row, schema included, without looking at positions or
// checksums (xmq_position itself is left out). It returns how many tables and rows are equal, a *Difference, or
// another error when a file cannot be read.
func Compare(pathA, pathB string) (tables, rows int, err error) {
	a, err := open(pathA)
	if err != nil {
		return 0, 0, err
	}
	defer a.Close()
	b, err := open(pathB)
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	const schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> 'xmq_position' ORDER BY " +
		"type, name"
	if _, err := same(a, b, "the schema", schema); err != nil {
		return 0, 0, err
	}
	names, err := a.Query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'xmq_position' AND name NOT " +
		"LIKE 'sqlite_stat%' ORDER BY name")
	if err != nil {
		return 0, 0, err
	}
	var all []string
	for names.Next() {
		var n string
		if err := names.Scan(&n); err != nil {
			return 0, 0, err
		}
		all = append(all, n)
	}
	if err := errors.Join(names.Err(), names.Close()); err != nil {
		return 0, 0, err
	}
	for _, n := range all {
		k, err := same(a, b, "table "+n, fmt.Sprintf(`SELECT * FROM "%s" ORDER BY 1, 2`, n))
		if err != nil {
			return tables, rows, err
		}
		tables, rows = tables+1, rows+k
	}
	return tables, rows, nil
}

func open(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// same runs one query on both and compares value by value.
func same(a, b *sql.DB, what, query string) (rows int, err error) {
	ra, err := a.Query(query)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	defer ra.Close()
	rb, err := b.Query(query)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	defer rb.Close()
	for {
		va, moreA, err := next(ra)
		if err != nil {
			return rows, err
		}
		vb, moreB, err := next(rb)
		if err != nil {
			return rows, err
		}
		if moreA != moreB {
			return rows, &Difference{fmt.Sprintf("%s: one side ends after row %d, the other goes on", what, rows)}
		}
		if !moreA {
			return rows, nil
		}
		rows++
		if len(va) != len(vb) {
			return rows, &Difference{fmt.Sprintf("%s: %d columns here, %d there", what, len(va), len(vb))}
		}
		for i := range va {
			if !equal(va[i], vb[i]) {
				return rows, &Difference{fmt.Sprintf("%s, row %d, column %d: %v here, %v there", what, rows, i+1, va[i], vb[i])}
			}
		}
	}
}

func equal(a, b any) bool {
	if x, ok := a.([]byte); ok {
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return a == b
}

func next(r *sql.Rows) ([]any, bool, error) {
	if !r.Next() {
		return nil, false, r.Err()
	}
	columns, err := r.Columns()
	if err != nil {
		return nil, false, err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	return values, true, r.Scan(into...)
}
