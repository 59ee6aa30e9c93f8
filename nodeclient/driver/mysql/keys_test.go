package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A key that the server has made for a foreign key ends with the next key that begins with its columns; one that
// somebody has written stays. Of both a copy has the same kind, and so the same keys after the same increments.
func TestACopyKnowsWhoHasMadeAKey(t *testing.T) {
	n := newNode(t)
	n.run("CREATE TABLE p (id int PRIMARY KEY, b int, UNIQUE KEY (b, id))",
		"CREATE TABLE made (id int PRIMARY KEY AUTO_INCREMENT, z int COMMENT 'KEY `f` (`a`), CONSTRAINT', a int, b int, "+
			"c int)",
		"ALTER TABLE made ADD CONSTRAINT zf FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE",
		"ALTER TABLE made ADD CONSTRAINT af FOREIGN KEY (b, c) REFERENCES p (b, id)",
		"CREATE INDEX more ON made (c, b)",
		"ALTER TABLE made ADD CONSTRAINT of_c FOREIGN KEY (c) REFERENCES p (id)",
		"CREATE TABLE written (a int, b int, KEY zf (a), KEY af (b), CONSTRAINT zw FOREIGN KEY (a) REFERENCES p (id))",
		"ALTER TABLE written ADD CONSTRAINT `a``f` FOREIGN KEY (b) REFERENCES p (id)",
		"CREATE TABLE same (a int, KEY sf (a), CONSTRAINT sf FOREIGN KEY (a) REFERENCES p (id))",
		"CREATE TABLE `half``made` (a int, b int, KEY `x,` (b), CONSTRAINT `h``f` FOREIGN KEY (a) REFERENCES p (id))",
		"INSERT INTO p VALUES (1, 1); INSERT INTO made (a, b, c) VALUES (1, 1, 1); INSERT INTO `half``made` VALUES (1, 2)")
	snapshot, at := n.taken()
	require.Empty(t, leftovers(t, server, n.db))
	copied := restoredNode(t, snapshot, at)
	tables := []string{"made", "written", "same", "half``made"}
	look := func(n *node) (all []string) {
		for _, table := range tables {
			all = append(all, n.query("SHOW CREATE TABLE `"+table+"`")...)
		}
		return all
	}
	require.Equal(t, look(n), look(copied))
	for _, on := range []*node{n, copied} {
		on.run("CREATE INDEX i1 ON made (a)", "CREATE INDEX i2 ON made (b, c, a)", "CREATE INDEX i3 ON written (a)",
			"CREATE INDEX i4 ON written (b)", "CREATE INDEX i5 ON same (a)", "CREATE INDEX i6 ON `half``made` (a, b)")
	}
	require.Equal(t, look(n), look(copied))
	all := strings.Join(look(copied), "\n")
	require.NotContains(t, all, "KEY `zf` (`a`),\n  KEY `i1`")
	require.Contains(t, all, "KEY `sf` (`a`)")
	require.NotContains(t, all, "KEY `h``f` (`a`)")
}

// Foreign keys take the places of their keys; what is no plain key of the same name and columns stays.
func TestForeignKeysTakeThePlacesOfTheirKeys(t *testing.T) {
	for create, want := range map[string]string{
		"CREATE TABLE `t` (\n  `a` int,\n  KEY `f` (`a`),\n  KEY `g` (`a`,`b`),\n  CONSTRAINT `e` FOREIGN KEY (`b`) " +
			"REFERENCES `p` (`id`),\n  CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n  CONSTRAINT `g` FOREIGN KEY " +
			"(`a`, `b`) REFERENCES `p` (`b`, `id`) ON DELETE CASCADE\n) ENGINE=InnoDB": "CREATE TABLE `t` (\n  `a` int,\n  " +
			"CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n  CONSTRAINT `g` FOREIGN KEY (`a`, `b`) REFERENCES `p` " +
			"(`b`, `id`) ON DELETE CASCADE,\n  CONSTRAINT `e` FOREIGN KEY (`b`) REFERENCES `p` (`id`)\n) ENGINE=InnoDB",
		"CREATE TABLE `t` (\n  `a` int,\n  KEY `f` (`a`)\n)": "CREATE TABLE `t` (\n  `a` int,\n  KEY `f` (`a`)\n)",
		"CREATE TABLE `t` (\n  `a` int,\n  KEY `f` (`a`) COMMENT 'mine',\n  CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES " +
			"`p` (`id`)\n)": "CREATE TABLE `t` (\n  `a` int,\n  KEY `f` (`a`) COMMENT 'mine',\n  CONSTRAINT `f` FOREIGN KEY " +
			"(`a`) REFERENCES `p` (`id`)\n)",
	} {
		require.Equal(t, want, swapped(create, doubtful(create)))
	}
}
