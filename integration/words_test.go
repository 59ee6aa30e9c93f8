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
