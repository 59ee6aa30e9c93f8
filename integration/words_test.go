package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// refused are words that say in a picture what a word of the field says plainly; write that one.
var refused = map[string]string{
	"road": "connection, way", "ground": "reason, situation", "shelf": "set of segments", "desk": "service",
	"letter": "message, record", "laid": "built, written", "ruin": "damage", "ruined": "damaged", "crowd": "many at once",
	"tally": "counter", "roof": "limit", "floor": "lowest", "house": "repository", "hearsay": "what others say",
	"dice": "random values", "trying on": "trying again",
}

// meant are the places, as they stand in a line, where such a word is the word of the field.
var meant = regexp.MustCompile(`(?i)lower-case letters|letter or digit|with a letter|(one|a|The) letter (for|more)|` +
	`"letters":|math\.floor`)

// refusals finds the words of refused in a text: the numbers of their lines, and what to write instead.
func refusals(text []byte) (found []string) {
	words := regexp.MustCompile(`(?i)\b(road|ground|shelf|shelve|desk|letter|laid|ruin|ruined|crowd|tally|tallie|` +
		`roof|floor|house|hearsay|dice|trying on)s?\b`)
	for i, line := range bytes.Split(text, []byte("\n")) {
		for _, word := range words.FindAllSubmatch(meant.ReplaceAll(line, nil), -1) {
			plain := strings.ToLower(string(word[1]))
			plain = strings.NewReplacer("shelve", "shelf", "tallie", "tally").Replace(plain)
			found = append(found, fmt.Sprintf("line %d says %q: write %s", i+1, word[0], refused[plain]))
		}
	}
	return found
}

// Code, comments, texts and pages use the words of the field: no metaphors of houses and roads.
func TestNoMetaphorsOfHousesAndRoads(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files", "*.go", "*.md").Output()
	require.NoError(t, err)
	n := 0
	for name := range strings.FieldsSeq(string(out)) {
		if name == "integration/words_test.go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.Empty(t, refusals(text), name)
		n++
	}
	require.Greater(t, n, 300)
	require.Len(t, refusals([]byte("// a road\nfoo(\"two Letters\") // background, crowded\n// lower-case letters\n"+
		"\"No answer. Trying on\"")), 3)
}

// One of a thing is not told as several: where a number of things is written, package units writes it, or the number
// cannot be 1.
func TestOneIsNotToldAsSeveral(t *testing.T) {
	told := regexp.MustCompile(`.{0,24}%d (more )?(increment|client|node|alert|segment|record|snapshot|topic|argument|` +
		`placeholder|key|row|chunk|order|producer|event)s\b`)
	several := regexp.MustCompile(`more than %d|at most %d|all %d|after %d (keys|chunks|records)|%d idempotency keys|` +
		`restored database holds %d keys|found %d rows|has %d rows|changed %d rows|%d rows compared|%d of %d|the %d inc|` +
		`and %d chunks|Errorf\("%d topics|: %d chunks|%d clients were heard|` +
		`in %d chunks|kills, %d rows`) // limits, what is damaged, and what a demo counts
	out, err := exec.Command("git", "-C", "..", "ls-files", "*.go", ":!*_test.go", ":!integration").Output()
	require.NoError(t, err)
	for name := range strings.FieldsSeq(string(out)) {
		text, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		for i, line := range bytes.Split(text, []byte("\n")) {
			if at := told.Find(line); at != nil && !several.Match(at) {
				require.Fail(t, "use units.Of", "%s:%d: %s", name, i+1, at)
			}
		}
	}
	require.Regexp(t, told, `"it has %d arguments"`)
}
