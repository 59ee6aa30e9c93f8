package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tests do not wait by the clock: a sleep is only allowed where time is fake.
func TestNoSleepInTests(t *testing.T) {
	for _, p := range packages(t) {
		names, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		require.NoError(t, err)
		sources := map[string]any{}
		for _, name := range names {
			sources[name] = nil
		}
		found, err := sleepsOutsideBubbles(sources)
		require.NoError(t, err)
		require.Empty(t, found, "wait for the state that the test needs, or run it in synctest.Test")
	}
}

// The rule sees calls, and not the word synctest somewhere in a file.
func TestASleepBesideABubbleIsSeen(t *testing.T) {
	const head = "package p\nimport (\"testing\"; \"testing/synctest\"; \"time\")\n" +
		"var _ = synctest.Wait\n" +
		"func bubble(t *testing.T, f func(*testing.T)) { synctest.Test(t, func(t *testing.T) { f(t) }) }\n" +
		"func wait() { time.Sleep(1) }\n" +
		"type s struct{}\nfunc (s) pass() { time.Sleep(1) }\n"
	for _, c := range []struct {
		body  string
		finds int
	}{
		{"synctest.Test(t, func(t *testing.T) { time.Sleep(1); wait(); s{}.pass() })", 0},
		{"bubble(t, func(t *testing.T) { time.Sleep(1); wait(); s{}.pass() })", 0},
		{"synctest.Test(t, func(*testing.T) { go func() { for ; ; time.Sleep(1) {} }(); wait(); s{}.pass() })", 0},
		{"time.Sleep(1); synctest.Test(t, func(*testing.T) { wait(); s{}.pass() })", 1},
		{"bubble(t, func(t *testing.T) { s{}.pass() }); wait()", 1},
		{"bubble(t, func(t *testing.T) { wait() }); s{}.pass()", 1},
		{"bubble(t, func(t *testing.T) { wait() }); f := wait; f()", 2},
		{"nap := time.Sleep; nap(1); synctest.Test(t, func(*testing.T) { wait(); s{}.pass() })", 1},
		{"_ = 0", 2}, // nobody names wait and pass in a bubble
	} {
		found, err := sleepsOutsideBubbles(map[string]any{"p_test.go": head + "func TestP(t *testing.T) { " + c.body +
			" }\n"})
		require.NoError(t, err)
		require.Len(t, found, c.finds, c.body)
	}
}

// sleepsOutsideBubbles returns where the test files of one package name time.Sleep outside a bubble of synctest. In a
// bubble is what stands in the arguments of synctest.Test, or of a function that calls a parameter of its own in one;
// and the body of a function that is named, and only there. sources are file names with their text, nil for the file's.
func sleepsOutsideBubbles(sources map[string]any) (found []string, err error) {
	files := token.NewFileSet()
	bodies := map[string][]ast.Node{} // of functions and methods, by name
	var parsed []*ast.File
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f, err := parser.ParseFile(files, name, sources[name], 0)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, f)
		for _, d := range f.Decls {
			if d, is := d.(*ast.FuncDecl); is && d.Body != nil {
				bodies[d.Name.Name] = append(bodies[d.Name.Name], d.Body)
			}
		}
	}
	selects := func(n ast.Node, pkg, name string) bool {
		s, is := n.(*ast.SelectorExpr)
		if !is || s.Sel.Name != name {
			return false
		}
		x, is := s.X.(*ast.Ident)
		return is && x.Name == pkg
	}
	var bubbles []ast.Node
	openers := map[string]bool{} // functions that run a parameter of theirs in a bubble
	each := func(visit func(ast.Node)) {
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool { visit(n); return true })
		}
	}
	each(func(n ast.Node) {
		if call, is := n.(*ast.CallExpr); is && selects(call.Fun, "synctest", "Test") {
			for _, a := range call.Args {
				bubbles = append(bubbles, a)
			}
		}
	})
	inside := func(regions []ast.Node, p token.Pos) bool {
		return slices.ContainsFunc(regions, func(r ast.Node) bool { return r.Pos() <= p && p < r.End() })
	}
	for _, f := range parsed {
		for _, d := range f.Decls {
			d, is := d.(*ast.FuncDecl)
			if !is || d.Body == nil {
				continue
			}
			parameters := map[string]bool{}
			for _, field := range d.Type.Params.List {
				for _, n := range field.Names {
					parameters[n.Name] = true
				}
			}
			ast.Inspect(d.Body, func(n ast.Node) bool {
				if call, is := n.(*ast.CallExpr); is && inside(bubbles, call.Pos()) {
					if name, is := call.Fun.(*ast.Ident); is && parameters[name.Name] {
						openers[d.Name.Name] = true
					}
				}
				return true
			})
		}
	}
	each(func(n ast.Node) {
		if call, is := n.(*ast.CallExpr); is {
			if name, is := call.Fun.(*ast.Ident); is && openers[name.Name] {
				for _, a := range call.Args {
					bubbles = append(bubbles, a)
				}
			}
		}
	})
	// Every other function is taken to be in a bubble until somebody names it who is not.
	declared := map[*ast.Ident]bool{}
	uses := map[string][]token.Pos{}
	each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			declared[n.Name] = true
		case *ast.Ident:
			if !declared[n] {
				uses[n.Name] = append(uses[n.Name], n.Pos())
			}
		}
	})
	sheltered := map[string]bool{}
	for name := range bodies {
		sheltered[name] = len(uses[name]) > 0
	}
	for changed := true; changed; {
		changed = false
		regions := slices.Clone(bubbles)
		for name, is := range sheltered {
			if is {
				regions = append(regions, bodies[name]...)
			}
		}
		for name, is := range sheltered {
			if is && slices.ContainsFunc(uses[name], func(p token.Pos) bool { return !inside(regions, p) }) {
				sheltered[name], changed = false, true
			}
		}
	}
	for name, is := range sheltered {
		if is {
			bubbles = append(bubbles, bodies[name]...)
		}
	}
	each(func(n ast.Node) {
		if selects(n, "time", "Sleep") && !inside(bubbles, n.Pos()) {
			at := files.Position(n.Pos())
			found = append(found, fmt.Sprintf("%s:%d", strings.TrimPrefix(at.Filename, "../"), at.Line))
		}
	})
	return found, nil
}
