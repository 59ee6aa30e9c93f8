package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withinProcess are the tests whose broker and nodes live in the test's own process, where the race detector sees them.
var withinProcess = []string{
	"TestADumpHoldsTheDataOfNow", "TestANewcomerThatCannotLoadIsSeenAtTheBroker",
	"TestANewcomerThatDiesWhileItLoadsIsMissed", "TestANewcomerWhoseDatabaseIsNotEmptyIsSeenAtTheBroker",
	"TestAnOlderNodeIsHeldBeforeWhatItDoesNotKnow", "TestCompressedFramesAreFewerBytesAndTheSameIncrements",
	"TestFD01StrangersOnThePorts", "TestForgottenTopicsLeaveNoHole", "TestHangingTargetDelaysNobody",
	"TestSS23FollowerSeesEveryChange", "TestSS29AddressChange", "TestTopicsOutliveALostStateStore", "TestWholePath",
	"TestXC02AnsweredNumbersReadBack", "TestXC05IdentityIsTheSubject", "TestXD03StuckSendersHurtNobody",
	"TestXD11RoundTripsDoNotCostThroughput", "TestXE09DumpDelaysNobody", "TestXI02StreamIsOneToN",
	"TestXI05IdleClientsAreWoken", "TestXR01FailingDumpIsToldToTheRequester", "TestXR04LinksAreCut",
}

// The list of tests that the race detector can look into is complete: it has every test that makes a cluster, by
// itself or by a function of this package.
func TestTheRaceDetectorSeesEveryCluster(t *testing.T) {
	names := map[string]map[string]bool{} // function -> identifiers in it
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			f, isFunc := decl.(*ast.FuncDecl)
			if !isFunc || f.Recv != nil {
				continue
			}
			in := map[string]bool{}
			ast.Inspect(f, func(n ast.Node) bool {
				if id, isIdent := n.(*ast.Ident); isIdent {
					in[id.Name] = true
				}
				return true
			})
			names[f.Name.Name] = in
		}
	}
	makes := map[string]bool{"newCluster": true}
	for grown := true; grown; {
		grown = false
		for name, in := range names {
			for maker := range makes {
				if in[maker] && !makes[name] {
					makes[name], grown = true, true
				}
			}
		}
	}
	var want []string
	for name := range makes {
		if strings.HasPrefix(name, "Test") {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	require.Equal(t, want, withinProcess)
}
