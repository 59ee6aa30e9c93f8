// Package shop makes a stream of SQL for a small shop and compares the databases that have applied it. The stream
// depends only on its seed; most statements are not idempotent (stock goes down, balances go up), so that one lost,
// doubled or swapped statement shows.
package shop

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Stream yields SQL scripts, each one increment.
type Stream struct {
	rng       *rand.Rand
	n         int
	customers int
	products  int
	orders    int
	extra     int // columns added so far
	pending   []string
}

// New starts the stream of a seed. The first scripts make the tables.
func New(seed uint64) *Stream {
	return &Stream{rng: rand.New(rand.NewPCG(seed, 7)), pending: []string{
		`CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT, balance INTEGER NOT NULL DEFAULT 0)`,
		`CREATE TABLE product (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, price NUMERIC NOT NULL CHECK (price > ` +
			`0), stock INTEGER NOT NULL DEFAULT 0, picture BLOB)`,
		`CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer(id), state TEXT NOT ` +
			`NULL DEFAULT 'new', total NUMERIC NOT NULL DEFAULT 0)`,
		`CREATE TABLE item (orders INTEGER NOT NULL REFERENCES orders(id) ON DELETE CASCADE, product INTEGER NOT NULL ` +
			`REFERENCES product(id), count INTEGER NOT NULL, PRIMARY KEY (orders, product)) WITHOUT ROWID`,
		`CREATE TABLE journal (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, amount INTEGER)`,
		`CREATE INDEX orders_by_customer ON orders (customer, state)`,
		"CREATE TRIGGER paid AFTER UPDATE OF state ON orders WHEN NEW.state = 'paid' AND OLD.state <> 'paid'\nBEGIN\n  " +
			"UPDATE customer SET balance = balance + NEW.total WHERE id = NEW.customer;\n  INSERT INTO journal (what, " +
			"amount) VALUES ('paid; order ' || NEW.id, NEW.total);\nEND",
		`CREATE VIEW turnover AS SELECT customer, sum(total) AS total FROM orders WHERE state = 'paid' GROUP BY customer`,
	}}
}

// Next is the next script.
func (s *Stream) Next() string {
	s.n++
	if len(s.pending) > 0 {
		next := s.pending[0]
		s.pending = s.pending[1:]
		return next
	}
	if s.customers < 20 {
		return s.customer()
	}
	if s.products < 20 {
		return s.product()
	}
	if s.n%2500 == 0 {
		return s.schema()
	}
	switch p := s.rng.IntN(100); {
	case p < 6:
		return s.customer()
	case p < 12:
		return s.product()
	case p < 40:
		return s.order()
	case p < 60:
		return fmt.Sprintf("UPDATE orders SET state = 'paid' WHERE id = %d", s.pick(s.orders))
	case p < 72:
		return fmt.Sprintf("UPDATE product SET stock = stock + %d, price = price + 1 WHERE id %% 7 = %d", 1+s.rng.IntN(50),
			s.rng.IntN(7))
	case p < 80:
		return fmt.Sprintf("UPDATE customer SET balance = balance - %d, city = %s WHERE id = %d", s.rng.IntN(90),
			quote(s.word()), s.pick(s.customers))
	case p < 86:
		return fmt.Sprintf("DELETE FROM orders WHERE id = %d", s.pick(s.orders))
	case p < 90:
		return fmt.Sprintf("UPDATE product SET picture = x'%x' WHERE id = %d", s.bytes(), s.pick(s.products))
	case p < 96:
		return fmt.Sprintf("INSERT INTO journal (what, amount) SELECT 'count of -- %d; paid', count(*) FROM orders WHERE "+
			"state = 'paid'", s.n)
	default:
		return fmt.Sprintf("DELETE FROM journal WHERE n <= (SELECT max(n) FROM journal) - 400; INSERT INTO journal (what, "+
			"amount) VALUES (%s, NULL)", quote("kept 400 at "+s.word()))
	}
}

func (s *Stream) customer() string {
	s.customers++
	return fmt.Sprintf("INSERT INTO customer (id, name, city) VALUES (%d, %s, %s)", s.customers,
		quote(s.word()+" "+s.word()), quote(s.word()))
}

func (s *Stream) product() string {
	s.products++
	return fmt.Sprintf("INSERT INTO product (id, title, price, stock) VALUES (%d, %s, %d.%02d, %d)", s.products,
		quote(fmt.Sprintf("%s %d", s.word(), s.products)),
		1+s.rng.IntN(500), s.rng.IntN(100), s.rng.IntN(1000))
}

// order is a transaction of several statements: one increment.
func (s *Stream) order() string {
	s.orders++
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO orders (id, customer) VALUES (%d, %d);\n", s.orders, s.pick(s.customers))
	for range 1 + s.rng.IntN(3) {
		product, count := s.pick(s.products), 1+s.rng.IntN(5)
		fmt.Fprintf(&b, "INSERT INTO item VALUES (%d, %d, %d) ON CONFLICT DO UPDATE SET count = count + excluded.count;\n",
			s.orders, product, count)
		fmt.Fprintf(&b, "UPDATE product SET stock = stock - %d WHERE id = %d;\n", count, product)
		fmt.Fprintf(&b, "UPDATE orders SET total = total + (SELECT price * %d FROM product WHERE id = %d) WHERE id = %d;\n",
			count, product, s.orders)
	}
	return b.String()
}

// schema changes the schema while data flows.
func (s *Stream) schema() string {
	switch s.extra++; s.extra % 4 {
	case 1:
		return fmt.Sprintf("ALTER TABLE customer ADD COLUMN extra%d TEXT DEFAULT 'none'; UPDATE customer SET extra%d = "+
			"city || '%d' WHERE id %% 2 = 0", s.extra, s.extra, s.n)
	case 2:
		return fmt.Sprintf("CREATE TABLE archive%d AS SELECT * FROM orders WHERE state = 'paid'; CREATE INDEX archived%d "+
			"ON archive%d (id)", s.extra, s.extra, s.extra)
	case 3:
		return fmt.Sprintf("ALTER TABLE journal ADD COLUMN note%d; UPDATE journal SET note%d = n * 2 WHERE n %% 3 = 0",
			s.extra, s.extra)
	default:
		return fmt.Sprintf("DROP TABLE archive%d", s.extra-2)
	}
}

func (s *Stream) pick(n int) int { return 1 + s.rng.IntN(max(1, n)) }

var syllables = []string{"an", "bo", "cé", "d'e", "fi", "gü", "ho", "in", "ja", "ku", "lö", "mi", "ña", "or", "π", "ra",
	"š", "to", "日", "😀"}

func (s *Stream) word() string {
	var b strings.Builder
	for range 2 + s.rng.IntN(3) {
		b.WriteString(syllables[s.rng.IntN(len(syllables))])
	}
	return b.String()
}

func (s *Stream) bytes() []byte {
	b := make([]byte, 8+s.rng.IntN(200))
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return b
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
