package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
)

// column is one column of a table whose values are written.
type column struct {
	name  string
	intro string // what stands before a literal of it: _utf8mb4, _binary, or nothing
	text  bool   // its literals are quoted
	json  bool   // a value of MySQL's own type
	seq   string // its default, where that takes the next value of a sequence
}

// columns are those of a table that are not generated.
func columns(ctx context.Context, s *session, table string) (all []column, err error) {
	rows, err := s.query(ctx, "SELECT column_name, data_type, coalesce(character_set_name, ''), "+
		"coalesce(column_default, '') FROM information_schema.columns "+
		"WHERE table_schema = database() AND table_name = "+quoteText(table)+
		" AND coalesce(generation_expression, '') = '' ORDER BY ordinal_position")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		c := column{name: row[0], text: true}
		switch row[1] {
		case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "year":
			c.text = false
		case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit",
			"vector", "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
			"geometrycollection":
			c.intro = "_binary"
		case "json":
			c.json = true
		default: // characters as bytes of the column's own set; dates, times, addresses and UUIDs as they are written
			if row[2] != "" {
				c.intro = "_" + row[2]
			}
		}
		if strings.Contains(row[3], "nextval(") {
			c.seq = row[3]
		}
		all = append(all, c)
	}
	return all, nil
}

// selected is what a copy of the columns is made of. JSON goes through its text, as the copy does: of a decimal or a
// date in it the text is kept.
func selected(all []column) string {
	values := make([]string, len(all))
	for i, c := range all {
		if values[i] = quoteName(c.name); c.json {
			values[i] = "CAST(CONVERT(" + values[i] + " USING utf8mb4) AS JSON)"
		}
	}
	return strings.Join(values, ", ")
}

// list is the names of columns.
func list(all []column) string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = quoteName(c.name)
	}
	return strings.Join(names, ", ")
}

// checksum is what two copies of a table agree on: how many rows it has, and the sum of their digests, in any order.
type checksum struct{ rows, sum uint64 }

func (t *checksum) add(row []byte) {
	h := fnv.New64a()
	_, _ = h.Write(row) // a hash never fails
	t.rows++
	t.sum += h.Sum64()
}

// read calls f with each row of a table as a tuple of literals, which it may keep until it returns. The server sends
// the values in binary form and characters as their bytes, so that none is rounded or converted.
func read(ctx context.Context, s *session, table string, all []column, f func(row []byte) error) error {
	if err := s.do(ctx, "SET character_set_results = binary"); err != nil {
		return err
	}
	stmt, err := s.prepare(ctx, "SELECT "+selected(all)+" FROM "+quoteName(table))
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }() // nothing is lost with it
	queryer, ok := stmt.(driver.StmtQueryContext)
	if !ok {
		return errors.New("the connection's statements answer no queries")
	}
	rows, err := queryer.QueryContext(ctx, nil)
	if err = s.note(ctx, err); err != nil {
		return err
	}
	values := make([]driver.Value, len(all))
	var row []byte
	for {
		if err := rows.Next(values); err == io.EOF {
			break
		} else if err = s.note(ctx, err); err != nil {
			return errors.Join(err, ignoreClosed(rows.Close()))
		}
		if row, err = tuple(row[:0], all, values); err == nil {
			err = f(row)
		}
		if err != nil {
			s.close() // the rest of the rows is not waited for
			return err
		}
	}
	if err := rows.Close(); err != nil {
		return s.note(ctx, err)
	}
	return s.do(ctx, "SET character_set_results = utf8mb4")
}

// ignoreClosed: what closing says of rows that have failed already is no news.
func ignoreClosed(error) error { return nil }

// tuple appends (1, _utf8mb4'a', NULL) to b.
func tuple(b []byte, all []column, values []driver.Value) ([]byte, error) {
	b = append(b, '(')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := v.(type) {
		case nil:
			b = append(b, "NULL"...)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		case float32: // as a double it is exact, and becomes the same float again
			b = strconv.AppendFloat(b, float64(v), 'e', -1, 64)
		case float64:
			b = strconv.AppendFloat(b, v, 'e', -1, 64)
		case []byte:
			if !all[i].text {
				b = append(b, v...)
				continue
			}
			b = append(b, all[i].intro...)
			b = appendQuoted(b, v)
		default:
			return nil, fmt.Errorf("the column %q has a value of the type %T", all[i].name, v)
		}
	}
	return append(b, ')'), nil
}

// appendQuoted appends bytes as a string literal that is read back as exactly these bytes.
func appendQuoted(b, v []byte) []byte {
	b = append(b, '\'')
	for _, c := range v {
		switch c {
		case 0:
			b = append(b, '\\', '0')
		case '\'', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '\'')
}
