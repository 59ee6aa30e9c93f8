package integration

import (
	"database/sql"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// query reads one value of a SQLite file.
func query(t *testing.T, path, q string) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	var v sql.NullString
	if err := db.QueryRow(q).Scan(&v); err != nil {
		return err.Error()
	}
	return v.String
}

// exec1 changes a SQLite file behind XMQ's back.
func exec1(t *testing.T, path, q string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(q)
	require.NoError(t, err)
}

// apply runs a whole script on a fresh database without XMQ.
func apply(t *testing.T, script, path string) {
	t.Helper()
	text, err := os.ReadFile(script)
	require.NoError(t, err)
	exec1(t, path, "PRAGMA foreign_keys = ON; BEGIN; "+string(text)+" COMMIT")
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}
