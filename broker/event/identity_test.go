package event

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostileIDs are names that no entrance may take.
var hostileIDs = []string{"", "-a", "A", "a,b", "a.b", "a b", "a*", "*", ">", "a>", "a/b", "../a", "a\x00", "a\n", "\n",
	"a\n\n", "ä", "аdmin", "n1 ", " n1",
	"a%2e", "_INBOX", "$sys", strings.Repeat("a", 32), strings.Repeat("a", 10000)}

// XD-17: "one ID grammar at every entrance (lower case, digits, hyphen, <= 31); hostile IDs refused".
func TestXD17OneGrammarOfIDs(t *testing.T) {
	for _, id := range []string{"a", "0", "n1", "n10", "master", "a-", "a-b-c", strings.Repeat("z", 31)} {
		require.NoError(t, CheckID(id), id)
		got, ok := SubjectID(Subject("main", Up, id), "main", Up)
		require.True(t, ok)
		require.Equal(t, id, got)
	}
	for _, id := range hostileIDs {
		err := CheckID(id)
		require.Error(t, err, "%q", id)
		require.Less(t, len(err.Error()), 300)
		_, ok := SubjectID("xmq.main.up."+id, "main", Up)
		require.False(t, ok, "%q", id)
		if len(id) <= MaxID && id != "" {
			_, err = Decode((&Event{Kind: IncrReq, ID: id}).Append(nil))
			require.ErrorIs(t, err, ErrDamaged, "%q", id)
		}
	}
}

func TestSubjectsOfOtherGroupsAndRoadsCarryNoIdentity(t *testing.T) {
	for _, s := range []string{"xmq.main.down.n1", "xmq.main2.up.n1", "xmq.mai.up.n1", "xmq.main.up.n1.x", "xmq.main.up.",
		"xmq.main.up", "XMQ.main.up.n1", "xmq..up.n1", "x.xmq.main.up.n1"} {
		_, ok := SubjectID(s, "main", Up)
		require.False(t, ok, s)
	}
	require.Equal(t, "xmq.main.pub.*", AnySubject("main", Pub))
}

// XD-16, the part of replies: an answer goes only into the own inbox of the one who asked.
func TestXD16ReplyAllowedOnlyIntoTheOwnInbox(t *testing.T) {
	for reply, want := range map[string]bool{
		"_INBOX_n1.abc":                         true,
		"_INBOX_n1.abc.7":                       true,
		"_INBOX_n10.abc":                        false, // another node with the same prefix
		"_INBOX_n1":                             false,
		"_INBOX_n1.":                            false,
		"_INBOX_n1..a":                          false,
		"_INBOX_n1.a.":                          false,
		"_INBOX_n1.*":                           false,
		"_INBOX_n1.>":                           false,
		"_INBOX_n1.a.>":                         false,
		"_INBOX_n1.a*":                          false,
		"_INBOX_n1.a b":                         false,
		"_INBOX_n1.a\tb":                        false,
		"_INBOX_n1.a\r\nPUB x 0":                false,
		"_INBOX_n1.a\x00":                       false,
		"_INBOX_n2.abc":                         false,
		"_inbox_n1.abc":                         false,
		"_INBOX.abc":                            false,
		"xmq.main.down.n2":                      false,
		"xmq.main.up.n1":                        false,
		"$JS.API.STREAM.LIST":                   false,
		"":                                      false,
		"_INBOX_n1." + strings.Repeat("a", 300): false,
	} {
		require.Equal(t, want, ReplyAllowed("n1", reply), "%q", reply)
	}
	require.True(t, ReplyAllowed("n10", "_INBOX_n10.x"))
	require.False(t, ReplyAllowed("n10", "_INBOX_n1.x"))
}

func TestLivesAsText(t *testing.T) {
	b, err := json.Marshal(struct {
		L LogID
		D DumpID
		I Instance
		C Chain
	}{1, 2, 3, 4})
	require.NoError(t, err)
	require.Equal(t, `{"L":"0000000000000001","D":"0000000000000002","I":"0000000000000003","C":"0000000000000004"}`,
		string(b))
	l, err := ParseLogID("00000000000000ff")
	require.NoError(t, err)
	require.Equal(t, LogID(255), l)
	for _, s := range []string{"", "1", "00000000000000FF", "0x000000000000ff", "+00000000000000f", "0000_0000_0000_f",
		"00000000000000ff0", strings.Repeat("f", 1000)} {
		_, err := ParseDumpID(s)
		require.Error(t, err, s)
		require.Less(t, len(err.Error()), 200)
		_, err = ParseChain(s)
		require.Error(t, err, s)
		require.Error(t, new(Instance).UnmarshalText([]byte(s)), s)
	}
	require.Equal(t, "42 (log 0000000000000001, chain 0000000000000002)", Position{1, 42, 2}.String())
}

func TestTopicGrammar(t *testing.T) {
	for _, s := range []string{"a", "shop.orders", "a_b-c", "0", strings.Repeat("t", 63)} {
		require.NoError(t, CheckTopic(s))
	}
	for _, s := range []string{"", ".a", "A", "a b", "a/b", "a\n", strings.Repeat("t", 64)} {
		require.Error(t, CheckTopic(s), "%q", s)
	}
}

func FuzzSubjectParse(f *testing.F) {
	f.Add("xmq.main.up.n1", "_INBOX_n1.x")
	f.Add("xmq.main.up.n1.x", "_INBOX_n10.x")
	f.Add("xmq.main.up.*", "_INBOX_n1.>")
	f.Fuzz(func(t *testing.T, subject, reply string) {
		id, ok := SubjectID(subject, "main", Up)
		if ok {
			require.NoError(t, CheckID(id))
			require.Equal(t, subject, Subject("main", Up, id))
		}
		if ReplyAllowed("n1", reply) {
			require.True(t, strings.HasPrefix(reply, "_INBOX_n1."))
			require.NotContains(t, reply, "*")
			require.NotContains(t, reply, ">")
			require.NotContains(t, reply, "..")
			require.False(t, ReplyAllowed("n10", reply))
		}
	})
}
