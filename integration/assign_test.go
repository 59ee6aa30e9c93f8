package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of what is assigned together there are at most four, so that a reader sees which value belongs to which name.
func TestFewThingsAreAssignedTogether(t *testing.T) {
	for _, p := range packages(t) {
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		require.NoError(t, err)
		for _, name := range names {
			found, err := assignedTogether(name, nil, 5)
			require.NoError(t, err)
			require.Empty(t, found, "write those that belong together in a line of their own")
		}
	}
	found, err := assignedTogether("p.go", "package p\nfunc f() {\n\ta, b, c, d, e := 1, 2, g(3, 4), 5,\n\t\t6\n}\n", 5)
	require.NoError(t, err)
	require.Equal(t, []string{"p.go:3"}, found)
	found, err = assignedTogether("p.go", "package p\nfunc f() { a, b, c, d, err := g(1, 2, 3, 4, 5) }\n", 5)
	require.NoError(t, err)
	require.Empty(t, found, "what a function answers is not a choice of who calls it")
}

// assignedTogether returns where a file assigns as many values as least, or more, to as many names in one statement.
// source is the file's text, or nil for the file itself.
func assignedTogether(name string, source any, least int) (found []string, err error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Rhs) >= least {
			found = append(found, fmt.Sprintf("%s:%d", name, files.Position(a.Pos()).Line))
		}
		return true
	})
	return found, nil
}
