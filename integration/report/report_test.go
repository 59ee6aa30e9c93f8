package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// run feeds a report with events, "action test output", and returns what it prints and its exit code.
func run(t *testing.T, strict bool, events ...line) (string, int) {
	t.Helper()
	var in, out bytes.Buffer
	for _, e := range events {
		require.NoError(t, json.NewEncoder(&in).Encode(e))
	}
	code := report(&in, &out, strict)
	return out.String(), code
}

func test(action, name, output string) line {
	return line{Action: action, Package: "xmq/x", Test: name, Output: output}
}

// after returns what a report prints after its counts.
func after(t *testing.T, text string) string {
	t.Helper()
	_, end, found := strings.Cut(text, " skipped\n")
	require.True(t, found, text)
	return end
}

func compared(name string) []line {
	return []line{
		test("output", name, "=== RUN   "+name+"\n"),
		test("output", name, "    x_test.go:3: a remark\n"),
		test("output", name, "    x_test.go:4: \n"),
		test("output", name, "        \tError Trace:\t/src/x_test.go:4\n"),
		test("output", name, "        \tError:      \tNot equal: \n"),
		test("output", name, "        \t            \texpected: 1\n"),
		test("output", name, "        \t            \tactual  : 2\n"),
		test("output", name, "        \tTest:       \t"+name+"\n"),
		test("output", name, "        \tMessages:   \tof the head\n"),
		test("output", name, "    x_test.go:9: said while it cleaned up\n"),
		test("output", name, "--- FAIL: "+name+" (0.00s)\n"),
		test("fail", name, ""),
	}
}

func TestCausesStandAfterTheCounts(t *testing.T) {
	events := compared("TestA/sub")
	events = append(events,
		test("output", "TestA", "    x_test.go:1: a remark of the test around it\n"),
		test("fail", "TestA", ""),
		test("output", "TestB", "    x_test.go:12: a remark\n"),
		test("output", "TestB", "    x_test.go:15: boom:\n"),
		test("output", "TestB", "        what came\n"),
		test("fail", "TestB", ""),
		test("output", "TestC", "    x_test.go:20: passes\n"),
		test("pass", "TestC", ""),
		test("output", "", "FAIL\n"),
		test("fail", "", ""))
	text, code := run(t, false, events...)
	assert.Equal(t, 1, code)
	assert.Equal(t, `FAILED xmq/x TestA/sub
        x_test.go:4:
            	Error:      	Not equal:
            	            	expected: 1
            	            	actual  : 2
            	Messages:   	of the head
FAILED xmq/x TestB
        x_test.go:12: a remark
        x_test.go:15: boom:
            what came
`, strings.ReplaceAll(after(t, text), "            \tError Trace:\t/src/x_test.go:4\n", ""))
	assert.Contains(t, text, "a remark of the test around it", "failures are shown in full before")
}

func TestCrashAndTimeLimitAndBuildAreCauses(t *testing.T) {
	text, code := run(t, false,
		test("output", "TestHangs", "=== RUN   TestHangs\n"),
		test("output", "TestHangs", "    x_test.go:4: begun\n"),
		test("output", "TestHangs", "panic: test timed out after 2s\n"),
		test("output", "TestHangs", "\trunning tests:\n"),
		test("output", "TestHangs", "\t\tTestHangs (2s)\n"),
		test("output", "TestHangs", "testing.(*M).startAlarm.func1()\n"),
		test("output", "TestHangs", "\t/usr/local/go/src/testing/testing.go:2802 +0x354\n"),
		test("output", "", "FAIL\txmq/x\t2.0s\n"),
		test("fail", "", ""),
		line{Action: "build-output", ImportPath: "xmq/y [xmq/y.test]", Output: "./y.go:2:13: cannot use y\n"},
		line{Action: "output", Package: "xmq/y", Output: "FAIL\txmq/y [build failed]\n"},
		line{Action: "fail", Package: "xmq/y", FailedBuild: "xmq/y [xmq/y.test]"})
	assert.Equal(t, 1, code)
	assert.Contains(t, text, "x_test.go:4: begun", "what a test wrote that did not end is shown")
	assert.Equal(t, `FAILED xmq/x TestHangs
    panic: test timed out after 2s
    	running tests:
    		TestHangs (2s)
FAILED xmq/y
    ./y.go:2:13: cannot use y
    FAIL	xmq/y [build failed]
`, after(t, text))
}

// TestTheEndOfAReportIsShort: however many tests fail and however much they say, what stands after the counts fits into
// the end of an output that continuous integration keeps.
func TestTheEndOfAReportIsShort(t *testing.T) {
	for _, failures := range []int{1, 3, 10, 500} {
		var events []line
		for i := range failures {
			name := fmt.Sprintf("Test%d", i)
			for range 20 {
				events = append(events, test("output", name, "    x_test.go:4: "+strings.Repeat("long ", 50)+"\n"))
			}
			events = append(events, compared(name)...)
		}
		text, code := run(t, false, events...)
		assert.Equal(t, 1, code)
		end := after(t, text)
		assert.LessOrEqual(t, strings.Count(end, "\n"), maxLinesInAll+1, "%d failures", failures)
		assert.Equal(t, min(failures, maxRepeated), strings.Count(end, "FAILED "), "%d failures", failures)
		assert.Equal(t, min(failures, maxRepeated), strings.Count(end, "of the head"), "each has its own words")
	}
}

func TestSkippedIsNotPassed(t *testing.T) {
	events := []line{test("pass", "TestA", ""), test("skip", "TestB", "")}
	text, code := run(t, true, events...)
	assert.Equal(t, 1, code)
	assert.Contains(t, text, "SKIPPED xmq/x TestB")
	_, code = run(t, false, events...)
	assert.Zero(t, code)
	text, code = run(t, true, events[0])
	assert.Zero(t, code)
	assert.Empty(t, after(t, text))
	_, code = run(t, true)
	assert.Equal(t, 1, code, "nothing passed")
}
