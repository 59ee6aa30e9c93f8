package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// orders are commands with a client or a flag behind them, as alerts, refusals and usage texts name them.
var orders = regexp.MustCompile("xmq (client (forget|skip|replace|seek|redump) (%s|ID|--)|log accept --)[^`.,;:()]*")

// Who is told a command runs it as it stands: each that a text names has what the command insists on.
func TestCommandsThatTextsNameCanBeRun(t *testing.T) {
	found := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			expr, is := n.(ast.Expr)
			if !is {
				return true
			}
			text, whole := written(t, expr)
			for _, order := range orders.FindAllString(text, -1) {
				found++
				require.Contains(t, order, "--reason", "%s: %s", path, text)
				if strings.HasPrefix(order, "xmq log accept") {
					require.Contains(t, order, "--confirm", path)
				}
			}
			return !whole
		})
		return nil
	}))
	require.Greater(t, found, 10)
}

// written is the text of a string in the source, which may be written in several pieces; false for anything else.
func written(t *testing.T, e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			require.NoError(t, err)
			return text, true
		}
	case *ast.BinaryExpr:
		left, is := written(t, e.X)
		right, also := written(t, e.Y)
		return left + right, is && also && e.Op == token.ADD
	}
	return "", false
}
