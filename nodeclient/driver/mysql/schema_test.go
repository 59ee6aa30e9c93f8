package mysql

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"xmq/broker/event"
	"xmq/nodeclient/driver/drivertest"
	"xmq/nodeclient/driver/servertest/mysqltest"
)

// schema is a database of the kind people have.
var schema = either(mariaSchema, mysqlSchema)

var mariaSchema = []string{
	"CREATE SEQUENCE number START WITH 5 INCREMENT BY 5 NOCACHE",
	"CREATE TABLE `Customer``s` (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL UNIQUE, " +
		"feels enum('sad', 'so-so', 'glücklich'), can set('a', 'b', 'ü'), born datetime(6), " +
		"seen timestamp(3) NULL, extra json, raw longblob, blank text, price decimal(30,10) CHECK (price > 0), twice " +
		"decimal(32,10) AS (price * 2) STORED, half double AS (price / 2) VIRTUAL, " +
		"f float, d double, b bit(33), y year, tim time(6), dat date, old varchar(20) CHARACTER SET latin1, wide " +
		"varchar(20) CHARACTER SET utf16, bin varbinary(300), g geometry, " +
		"fixed binary(4), c char(5), u uuid, ip inet6, big bigint unsigned, hidden int INVISIBLE DEFAULT 7, tiny tinyint, " +
		"FULLTEXT KEY (blank)) COMMENT 'it''s; -- \\\\ \"quoted\"'",
	"CREATE TABLE bill (no int PRIMARY KEY DEFAULT (NEXT VALUE FOR number), customer bigint unsigned NOT NULL, at " +
		"timestamp DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, paid boolean DEFAULT false, " +
		"FOREIGN KEY (customer) REFERENCES `Customer``s` (id) ON DELETE CASCADE ON UPDATE CASCADE, KEY (at DESC))",
	"CREATE TABLE above (id int PRIMARY KEY, up int, CONSTRAINT `to itself` FOREIGN KEY (up) REFERENCES above (id))",
	"CREATE TABLE journal (n bigint AUTO_INCREMENT PRIMARY KEY, what text) AUTO_INCREMENT=1000",
	"CREATE TABLE part (d date NOT NULL, v int) PARTITION BY RANGE (year(d)) (PARTITION p0 VALUES LESS THAN (2024), " +
		"PARTITION p1 VALUES LESS THAN MAXVALUE)",
	"CREATE TABLE keyless (v int, w varchar(10))",
	"CREATE FUNCTION total(c bigint) RETURNS int READS SQL DATA COMMENT 'counts' RETURN (SELECT count(*) FROM bill " +
		"WHERE customer = c)",
	"CREATE VIEW b_unpaid AS SELECT c.name, b.no, total(c.id) AS t FROM `Customer``s` c JOIN bill b ON b.customer = " +
		"c.id WHERE NOT b.paid",
	"CREATE VIEW a_on_view AS SELECT name, count(*) AS n FROM b_unpaid GROUP BY name",
	"CREATE TRIGGER b_noted AFTER INSERT ON bill FOR EACH ROW BEGIN INSERT INTO journal (what) VALUES " +
		"(concat('insert;', NEW.no)); END",
	"CREATE TRIGGER a_noted AFTER INSERT ON bill FOR EACH ROW FOLLOWS b_noted INSERT INTO journal (what) VALUES " +
		"('second')",
	"CREATE TRIGGER before_it BEFORE UPDATE ON bill FOR EACH ROW SET NEW.paid = coalesce(NEW.paid, false)",
	"DELIMITER //\nCREATE PROCEDURE `buy it`(c bigint, OUT made int) BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION " +
		"RESIGNAL; SET made = NEXT VALUE FOR number; INSERT INTO bill (no, customer) VALUES (made, c); END//",
	"INSERT INTO `Customer``s` (name, feels, can, born, seen, extra, blank, price, f, d, b, y, tim, dat, old, wide, " +
		"fixed, c, u, ip, big, tiny) VALUES ('O\\'Brien; -- no', 'glücklich', 'a,ü', '1970-01-01 12:00:00.123456', " +
		"'2024-02-29 23:59:59.999', '{\"a\": [1, null, \"x\"]}', '', 12345678901234567890.0123456789, 0.1, 0.1, " +
		"b'101010101010101010101010101010101', 1999, '-838:59:59.000000', '9999-12-31', 'ÄÖÜé', '𝔘 wide 😀', " +
		"x'00ff00ff', 'a', '123e4567-e89b-12d3-a456-426655440000', '::ffff:192.0.2.1', 18446744073709551615, -128), " +
		"('zero', NULL, '', '0000-00-00', NULL, NULL, NULL, NULL, -1.17549e-38, 1.7976931348623157e308, b'0', 0, " +
		"'00:00:00', '0000-00-00', '', '', '', '', NULL, '::', 0, 127)",
	"INSERT INTO `Customer``s` (name, bin, g, f, d) VALUES ('bytes', x'" + drivertest.EveryByte() +
		"', ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326), 16777217, 2.2250738585072014e-308), ('third', '\\\\ \\' " +
		"\" \\0 \\n \\Z', POINT(1e-300, -0.0), 3.4028234663852886e38, -0.0)",
	`{"sql": "INSERT INTO ` + "`Customer``s`" + ` (name, feels, extra, raw, blank, price, born) ` +
		`VALUES (?, ?, ?, unhex(?), ?, ?, ?)",
	  "args": ["𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀 \u00e9", "so-so", {"deep": {"er": [true, 1.50, "it's"]}}, "` + drivertest.EveryByte() + `",
	  null, 0.0000000001, "2024-06-01 12:00:00"]}`,
	"INSERT INTO bill (customer, at) VALUES (1, '2024-02-29 23:59:59'), (1, '2024-03-01 00:00:00')",
	`{"sql": "UPDATE bill SET paid = ? WHERE no = ?", "args": [true, 10]}`,
	"CALL `buy it`(2, @made); INSERT INTO journal (what) VALUES (concat('made ', @made)), (''), (NULL)",
	"INSERT INTO part VALUES ('2020-05-05', 1), ('2025-05-05', 2); INSERT INTO above VALUES (1, NULL), (2, 1); INSERT " +
		"INTO keyless VALUES (1, 'a'), (1, 'a'), (NULL, '')",
	"INSERT INTO journal (what) VALUES ('gone'); DELETE FROM journal WHERE what = 'gone'",
	"SET @n = 1; INSERT INTO `Customer``s` (id, name) VALUES (4000000000, 'far'); DELETE FROM `Customer``s` WHERE name " +
		"= 'far'",
}

// mysqlSchema is the same without what MySQL has not: sequences, types for addresses, zero dates.
var mysqlSchema = func() (all []string) {
	other := strings.NewReplacer("CREATE SEQUENCE number START WITH 5 INCREMENT BY 5 NOCACHE",
		"CREATE TABLE number (v vector(2))", "no int PRIMARY KEY DEFAULT (NEXT VALUE FOR number)",
		"no int AUTO_INCREMENT PRIMARY KEY",
		"SET made = NEXT VALUE FOR number; INSERT INTO bill (no, customer) VALUES (made, c);",
		"INSERT INTO bill (customer) VALUES (c); SET made = last_insert_id();", "[true, 10]", "[true, 2]",
		"u uuid, ip inet6", "u binary(16), ip varbinary(16)", "'123e4567-e89b-12d3-a456-426655440000'",
		"uuid_to_bin('123e4567-e89b-12d3-a456-426655440000')", "'::ffff:192.0.2.1'", "inet6_aton('::ffff:192.0.2.1')",
		"'::'", "inet6_aton('::')", "'0000-00-00'", "'1000-01-01'", "hidden int INVISIBLE DEFAULT 7",
		"hidden int DEFAULT 7 INVISIBLE", "SET @n = 1;", "INSERT INTO number VALUES (string_to_vector('[1.5,-2]')), (NULL);")
	for _, script := range mariaSchema {
		all = append(all, other.Replace(script))
	}
	return append(all, "CREATE TABLE told (id int PRIMARY KEY, j json, k int, KEY ((k + 1)), KEY ((CAST(j->'$.n' AS "+
		"UNSIGNED ARRAY))), CHECK (k > 0) NOT ENFORCED)",
		"INSERT INTO told VALUES (1, JSON_OBJECT('n', JSON_ARRAY(1, 2), 't', CAST('2024-02-29 12:00:00' AS DATETIME), "+
			"'b', x'00ff'), 1), (2, 'null', 2), (3, NULL, 3), (4, '\"𝔘\\\\n\"', 4)",
		"CREATE JSON DUALITY VIEW as_json AS SELECT JSON_DUALITY_OBJECT('_id': id, 'k': k) FROM told")
}()

// after makes items after any position.
func after(pos event.Position, scripts ...string) []event.Item {
	return drivertest.LogAt(pos).Scripts(scripts...)
}

// contents is everything a reader can see.
func (n *node) contents() (all []string) {
	n.Helper()
	for _, row := range n.query("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = " +
		"database() ORDER BY 1") {
		name, kind, _ := strings.Cut(row, "|")
		all = append(all, row)
		if name != "xmq_position" {
			all = append(all, slices.Sorted(slices.Values(n.query("SELECT * FROM "+quoteName(name))))...)
		}
		if kind == "VIEW" {
			name = "VIEW " + quoteName(name)
		} else {
			name = "TABLE " + quoteName(name)
		}
		all = append(all, strings.Join(n.query("SHOW CREATE "+name), "\n"))
	}
	for _, sql := range []string{
		"SELECT id, hidden, hex(raw), hex(bin), hex(g), ST_AsText(g), ST_SRID(g), hex(wide), hex(old), hex(fixed), " +
			"bin(b), f + 0e0, d, feels + 0, can + 0, hex(name) FROM `Customer``s` ORDER BY id",
		"SELECT routine_name, routine_type, routine_definition, sql_mode, definer, is_deterministic, routine_comment, " +
			"parameter_style, sql_data_access, data_type, collation_connection FROM information_schema.routines WHERE " +
			"routine_schema = database() ORDER BY 1",
		"SELECT trigger_name, event_object_table, event_manipulation, action_timing, action_order, action_statement, " +
			"sql_mode, definer FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1",
		"SELECT table_name, definer, security_type, check_option FROM information_schema.views WHERE table_schema = " +
			"database() ORDER BY 1",
		"SELECT constraint_name, table_name, referenced_table_name, delete_rule, update_rule FROM " +
			"information_schema.referential_constraints WHERE constraint_schema = database() ORDER BY 1",
		"SELECT * FROM number",
	} {
		all = append(all, n.query(sql)...)
	}
	for i := range all { // names of databases stand in some texts
		all[i] = strings.ReplaceAll(all[i], n.db, "HERE")
	}
	return all
}

// A real schema survives being applied and being dumped, and behaves the same afterwards.
func TestARealSchemaSurvivesApplyAndDump(t *testing.T) {
	n := newNode(t)
	n.run(schema...)
	require.Equal(t, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 😀 é|so-so|0.0000000002|"+either("1.50", "1.5")+"|NULL",
		n.value("SELECT name, feels, twice, json_value(extra, '$.deep.er[1]'), blank FROM `Customer``s` WHERE raw IS "+
			"NOT NULL"))
	require.Equal(t, strings.ToUpper(drivertest.EveryByte()),
		n.value("SELECT hex(raw) FROM `Customer``s` WHERE raw IS NOT NULL"))
	require.Equal(t, either([]string{"insert;5", "second", "insert;10", "second", "insert;15", "second", "made 15", "",
		"NULL"}, []string{"insert;1", "second", "insert;2", "second", "insert;3", "second", "made 3", "", "NULL"}),
		n.query("SELECT what FROM journal ORDER BY n"))
	snapshot, at := n.taken()
	copied := restoredNode(t, snapshot, at)
	require.Equal(t, n.contents(), copied.contents())
	for _, m := range []*node{n, copied} {
		next := []string{"INSERT INTO bill (customer, at) VALUES (2, '2024-01-01')", "DELETE FROM `Customer``s` WHERE id = 1",
			"INSERT INTO `Customer``s` (name, price) VALUES ('next', 1)",
			"CALL `buy it`(3, @x)", "INSERT INTO journal (what) VALUES ('last')", "ALTER TABLE above ADD COLUMN x int DEFAULT 1",
			"DROP VIEW a_on_view"}
		before := m.at()
		_, err := m.Apply(t.Context(), before, after(before, next...)) // both go on with the same increments
		require.NoError(t, err)
		_, err = m.Apply(t.Context(), m.at(), after(m.at(), "INSERT INTO bill (customer) VALUES (77)"))
		require.ErrorContains(t, err, "foreign key", "keys hold")
		require.NoError(t, m.Seek(t.Context(), after(m.at(), "")[0].Pos))
	}
	require.Equal(t, n.contents(), copied.contents())
	require.Equal(t, either("20", "4"), copied.value("SELECT no FROM bill WHERE at = '2024-01-01'"),
		"the sequence goes on")
	require.Equal(t, "4000000001", copied.value("SELECT id FROM `Customer``s` WHERE name = 'next'"),
		"so does AUTO_INCREMENT")
	require.Equal(t, "0", copied.value("SELECT count(*) FROM bill WHERE customer = 1"), "and what cascades")

	again, then := copied.taken() // a copy of the copy, over what is there
	n.load(again, then)
	require.Equal(t, copied.contents(), n.contents())
}

// The same with a binary log, whose formats MIXED and ROW take everything.
func TestARealSchemaSurvivesOnAServerWithABinaryLog(t *testing.T) {
	own := mysqltest.New(t, "--log-bin=bin", "--log-bin-trust-function-creators=1", "--binlog-format=MIXED")
	n, copied := nodeOn(t, own, own.Addr()), nodeOn(t, own, own.Addr())
	n.run(schema...)
	copied.load(n.taken())
	require.Equal(t, n.contents(), copied.contents())
}
