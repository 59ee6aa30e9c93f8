package commands

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func words(w ...string) (c Command) {
	for _, s := range w {
		c = append(c, []byte(s))
	}
	return c
}

// Bodies and what they hold: the golden table of both forms.
func TestBodiesAreCutIntoCommands(t *testing.T) {
	for body, want := range map[string][]Command{
		"SET a b":                                       {words("SET", "a", "b")},
		"SET a b\n":                                     {words("SET", "a", "b")},
		"\r\n\n  SET\ta  b \r\n\t\nDEL a\r\n":           {words("SET", "a", "b"), words("DEL", "a")},
		`SET a "x\n\r\t\b\a\\\"\x00\xfF\q\xzz"`:         {words("SET", "a", "x\n\r\t\b\a\\\"\x00\xffqxzz")},
		`SET 'it\'s' 'a\n"b'`:                           {words("SET", "it's", `a\n"b`)},
		`SET a"b c" ""`:                                 {words("SET", "ab c", "")},
		"SET ключ 😀":                                    {words("SET", "ключ", "😀")},
		"SET a \xff\xfe":                                {words("SET", "a", "\xff\xfe")},
		`SET a b\n`:                                     {words("SET", "a", `b\n`)},
		"*1\r\n$4\r\nPING\r\n":                          {words("PING")},
		"*2\r\n$3\r\nDEL\r\n$0\r\n\r\n":                 {words("DEL", "")},
		"*2\r\n$3\r\nDEL\r\n$4\r\n\r\n\x00*\r\n":        {words("DEL", "\r\n\x00*")},
		"*1\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n$1\r\nc\r\n": {words("a"), words("b", "c")},
	} {
		got, err := Parse([]byte(body))
		require.NoError(t, err, "%q", body)
		require.Equal(t, want, got, "%q", body)
	}
}

// Every malformed body is one sentence that says where.
func TestBodiesThatBreakTheRulesAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		"":                                "it has no command",
		"\r\n \n":                         "it has no command",
		"SET a b\nSET \"a":                "line 2: a quote is not closed",
		"SET 'a\nb'":                      "line 1: a quote is not closed",
		`SET "a"b`:                        "line 1: a closing quote must be followed by a blank",
		`SET "a\"`:                        "line 1: a quote is not closed",
		"SET a\n\x00":                     `line 2: column 1: it has a NUL byte; write \x00 in double quotes`,
		"*":                               "byte 1: no length followed by CRLF stands after '*'",
		"*-1\r\n":                         "byte 1: no length followed by CRLF stands after '*'",
		"*0\r\n":                          "byte 0: an array of no words is no command",
		"*+3\r\n":                         "byte 1: no length followed by CRLF stands after '*'",
		"*03\r\n":                         "byte 1: no length followed by CRLF stands after '*'",
		"*1\n$1\na\n":                     "byte 1: no length followed by CRLF stands after '*'",
		"*99999999999999999999999999\r\n": "byte 1: no length followed by CRLF stands after '*'",
		"*1048577\r\n":                    "byte 10: it has more than 1048576 words",
		"*1048576\r\n":                    "byte 10: 1048576 words are announced but only 0 bytes follow",
		"*1\r\n:1\r\n12345":               "byte 4: ':' stands where '$' is expected",
		"*1\r\n$-1\r\n1234":               "byte 5: no length followed by CRLF stands after '$'",
		"*1\r\n$2147483648\r\n":           "byte 5: no length followed by CRLF stands after '$'",
		"*1\r\n$536870912\r\nab":          "byte 16: a word of 536870912 bytes is announced but only 2 bytes follow",
		"*1\r\n$1\r\nabc":                 "byte 9: a word of 1 bytes does not end with CRLF",
		"*1\r\n$3\r\nab\r\n":              "byte 8: a word of 3 bytes is announced but only 4 bytes follow",
		"*2\r\n$6\r\nabcdef\r\n":          "byte 16: it ends where '$' is expected",
		"*1\r\n$1\r\na\r\nPING\r\n":       "byte 11: 'P' stands where '*' is expected",
	} {
		_, err := Parse([]byte(body))
		require.EqualError(t, err, want, "%q", body)
	}
	_, err := Parse([]byte(strings.Repeat("a ", MaxWords+1)))
	require.ErrorIs(t, err, errWords)
	_, err = Parse([]byte(strings.Repeat("a b\n", MaxWords/2+1)))
	require.ErrorIs(t, err, errWords)
}

// A body cut at any byte is refused or holds fewer whole commands, and what Append writes is golden.
func TestArraysCutAtEveryByte(t *testing.T) {
	body := Append(Append(nil, words("SET", "a", "\r\n\x00")), words("DEL", "ü"))
	require.Equal(t, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\n\r\n\x00\r\n*2\r\n$3\r\nDEL\r\n$2\r\nü\r\n", string(body))
	whole := len(Append(nil, words("SET", "a", "\r\n\x00")))
	for n := range body {
		got, err := Parse(body[:n])
		if n == whole {
			require.NoError(t, err)
			require.Len(t, got, 1)
			continue
		}
		require.Error(t, err, "%d bytes", n)
	}
}

// Lengths that lie cost no memory.
func TestLengthsThatLieAllocateNothing(t *testing.T) {
	body := []byte("*1048576\r\n$536870912\r\nab\r\n")
	require.Less(t, testing.AllocsPerRun(10, func() { _, _ = Parse(body) }), 20.0)
}

func TestTheBeginningOfACommandIsOneShortLine(t *testing.T) {
	require.Equal(t, `"SET a\n b"`, words("SET", "a\n", "b").String())
	long := words("SET", strings.Repeat("x", 1000), "y").String()
	require.Equal(t, `"SET `+strings.Repeat("x", 196)+`"`, long)
	require.Equal(t, "GETSET", words("getSet").Name())
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"SET a b", "SET 'a\\'' \"\\x00\"\r\nDEL x", "*1\r\n$4\r\nPING\r\n",
		"*2\r\n$1\r\na\r\n$0\r\n\r\n", "*1048576\r\n$9\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		commands, err := Parse(body)
		require.Equal(t, before, body, "a body is only read")
		if err != nil {
			require.Empty(t, commands)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		var again []byte
		for _, c := range commands {
			require.NotEmpty(t, c)
			again = Append(again, c)
		}
		reread, err := Parse(again)
		require.NoError(t, err)
		require.Len(t, reread, len(commands))
		for i := range commands {
			for k := range commands[i] {
				require.Equal(t, string(commands[i][k]), string(reread[i][k]))
			}
		}
	})
}
