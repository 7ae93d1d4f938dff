package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/avro"
)

// world is a state and a parser under test.
type world struct {
	*testing.T
	s *State
	p *Parser
}

func begin(t *testing.T) *world {
	t.Helper()
	return &world{t, NewState(), NewParser(avro.Limits{}, 1<<20)}
}

// do applies what a decision wants, as a node that reads it does.
func (w *world) do(changes []Change, err error) {
	w.Helper()
	require.NoError(w, err)
	for _, c := range changes {
		read, err := Decode(c.Record())
		require.NoError(w, err)
		require.NoError(w, w.s.Apply(read))
	}
}

func (w *world) register(subject, text string) Answer {
	w.Helper()
	a, changes, err := w.s.Register(w.p, Registration{Subject: subject, Text: text, ID: NoID})
	w.do(changes, err)
	return a
}

func TestNames(t *testing.T) {
	for text, want := range map[string]Name{
		"s": {".", "s"}, "": {".", ""}, ":.c:s": {".c", "s"}, ":.c:": {".c", ""}, ":.c": {".c", ""},
		":.:s": {".", "s"}, ":c:s": {".", ":c:s"}, "a:.b:c": {".", "a:.b:c"},
		":.a:b:c": {".a", "b:c"}, ":*:s": {".", ":*:s"},
	} {
		assert.Equal(t, want, ParseName(text), text)
		assert.Equal(t, want, ParseName(want.String()), text)
	}
	assert.Equal(t, Name{".c", "t"}, ParseName(":.c:s").In("t"))
	assert.Equal(t, Name{".d", "t"}, ParseName(":.c:s").In(":.d:t"))
	for text, want := range map[string]string{"c": ".c", ".c": ".c", ":.c:": ".c", "": "."} {
		got, ok := ParseContext(text)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"a:b", "a\nb", ":.a:b:"} {
		_, ok := ParseContext(text)
		assert.False(t, ok, text)
	}
}

func TestVersionsAsText(t *testing.T) {
	for text, want := range map[string]Version{
		"1": 1, " 7 ": 7, "2147483647": VersionMax, "latest": Latest, " Latest": Latest,
		"-1": Latest,
	} {
		got, err := ParseVersion(text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "0", "-2", "2147483648", "1e3", "+1", "0x1", "١"} {
		_, err := ParseVersion(text)
		assert.ErrorIs(t, err, InvalidVersion, text)
	}
}

func TestGUIDs(t *testing.T) {
	c := NewContent(`"int"`, nil, nil, nil)
	got, ok := ParseGUID(strings.ToUpper(c.GUID.String()))
	assert.True(t, ok)
	assert.Equal(t, c.GUID, got)
	for _, text := range []string{
		"", c.GUID.String()[1:], strings.Repeat("-", 36),
		"g" + c.GUID.String()[1:],
	} {
		_, ok := ParseGUID(text)
		assert.False(t, ok, text)
	}
}

// TestIdentity: "MD5(canonical schema text ‖ references(name,subject,int32
// version) ‖ 0x01+metadata ‖ 0x01+ruleSet)".
func TestIdentity(t *testing.T) {
	refs := []Reference{{"n", "s", 258}}
	meta := &Metadata{
		Tags:       map[string][]string{"p": {"T"}},
		Properties: map[string]string{"k": "v"}, Sensitive: []string{"k"},
	}
	rules := &RuleSet{DomainRules: []Rule{{
		Name: "r", Kind: "TRANSFORM", Mode: "WRITE", Type: "CEL",
		Params: map[string]string{"a": "b"}, Disabled: true,
	}}}
	want := NewContent("xns\x00\x00\x01\x02\x01pTkvk\x01rTRANSFORMWRITECELab\x01", nil, nil, nil)
	assert.Equal(t, want.GUID, NewContent("x", refs, meta, rules).GUID)
}

func TestContentsWithOneGUIDAreToldApart(t *testing.T) {
	w := begin(t)
	a := NewContent("x", []Reference{{"ab", "c", 1}}, nil, nil)
	b := NewContent("x", []Reference{{"a", "bc", 1}}, nil, nil)
	require.Equal(t, a.GUID, b.GUID)
	one := Change{Kind: SchemaChange, Subject: "s", Version: 1, ID: 1, Content: a}
	require.NoError(t, w.s.Apply(one))
	two := Change{Kind: SchemaChange, Subject: "t", Version: 1, ID: 2, Content: b}
	require.ErrorContains(t, w.s.Apply(two), "GUID")
	two.ID = 1
	require.ErrorContains(t, w.s.Apply(two), "id 1 of context .")
	assert.Nil(t, w.s.Subject("t"))
}

func TestRecordsComeBack(t *testing.T) {
	yes := true
	content := NewContent(`{"doc":"<&>\u2028"}`, []Reference{{"n", "s", 2}},
		&Metadata{Properties: map[string]string{"a": "b"}}, &RuleSet{EnableAt: "now"})
	for _, c := range []Change{
		{Kind: SchemaChange, Subject: "s", Version: 3, ID: 4, Content: content},
		{
			Kind: SchemaChange, Subject: ":.c:a/b", Version: 1, ID: 1, Content: content,
			Deleted: true,
		},
		{Kind: SchemaChange, Subject: "", Version: 1, Removed: true},
		{Kind: ConfigChange, Config: Config{CompatibilityLevel: "FULL", Normalize: &yes}},
		{Kind: ConfigChange, Subject: "s", Removed: true},
		{Kind: ModeChange, Subject: ":.c:", Mode: Import},
		{Kind: SubjectDelete, Subject: "s", Version: 9},
		{Kind: ContextChange, Context: ".c", MaxID: 7},
	} {
		got, err := Decode(c.Record())
		require.NoError(t, err)
		assert.Equal(t, c, got)
	}
	assert.Equal(t, `{"keytype":"SCHEMA","subject":"s","version":3,"magic":1}`,
		string(Change{Kind: SchemaChange, Subject: "s", Version: 3, Removed: true}.Record().Key))
	assert.Equal(t, `{"keytype":"CONFIG","subject":null,"magic":0}`,
		string(Change{Kind: ConfigChange, Removed: true}.Record().Key))
	assert.Equal(t, `{"keytype":"CONTEXT","tenant":"default","context":".c","magic":0}`,
		string(Change{Kind: ContextChange, Context: ".c", Removed: true}.Record().Key))
}

func FuzzDecode(f *testing.F) {
	c := Change{
		Kind: SchemaChange, Subject: "s", Version: 3, ID: 4,
		Content: NewContent("x", []Reference{{"n", "s", 2}}, nil, nil),
	}
	f.Add(c.Record().Key, c.Record().Value)
	f.Add([]byte(`{"keytype":"CONTEXT","context":".c"}`), []byte(`{"maxId":1}`))
	f.Add([]byte(`{"keytype":"CONFIG","subject":null}`), []byte(`{"compatibilityLevel":"X"}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c, err := Decode(Record{Key: key, Value: value})
		if err != nil {
			return
		}
		s := NewState()
		if s.Apply(c) == nil {
			again, err := Decode(c.Record())
			require.NoError(t, err)
			require.NoError(t, NewState().Apply(again))
		}
		s.ConfigInScope(c.Subject)
		s.ModeInScope(c.Subject)
	})
}

func TestADraftIsSeenByNobodyElse(t *testing.T) {
	w := begin(t)
	w.register("s", `"int"`)
	draft := w.s.Draft()
	for i, text := range []string{`"long"`, `"float"`} {
		a, changes, err := draft.Register(w.p, Registration{Subject: "s", Text: text, ID: NoID})
		require.NoError(t, err)
		assert.Equal(t, ID(i+2), a.ID)
		assert.Equal(t, Version(i+2), a.Version)
		for _, c := range changes {
			require.NoError(t, draft.Apply(c))
		}
	}
	_, changes, err := draft.DeleteSubject("s", false)
	require.NoError(t, err)
	for _, c := range changes {
		require.NoError(t, draft.Apply(c))
	}
	assert.Equal(t, 0, draft.Subject("s").Live)
	assert.Equal(t, ID(3), draft.MaxID("."))
	assert.Equal(t, 1, w.s.Subject("s").Live)
	assert.Len(t, w.s.Subject("s").Versions, 1)
	assert.Equal(t, ID(1), w.s.MaxID("."))
	assert.Equal(t, ID(2), w.register("s", `"double"`).ID)
	assert.Equal(t, `"double"`, w.s.Subject("s").Versions[1].Content.Text)
}

func TestReadersKeepWhatTheyGot(t *testing.T) {
	w := begin(t)
	w.register("s", `"int"`)
	before := w.s.Subject("s")
	w.register("s", `"long"`)
	_, changes, err := w.s.DeleteVersion("s", 1, "1", false)
	w.do(changes, err)
	assert.Len(t, before.Versions, 1)
	assert.False(t, before.Versions[0].Deleted)
}

func TestNamesByPrefix(t *testing.T) {
	w := begin(t)
	for _, name := range []string{"b", "a", "ab", ":.c:a", ":.c:x", ":.d:a", ":plain", "é"} {
		w.register(name, `"int"`)
	}
	for prefix, want := range map[string][]string{
		"":      {":.c:a", ":.c:x", ":.d:a", ":plain", "a", "ab", "b", "é"},
		":*:":   {":.c:a", ":.c:x", ":.d:a", ":plain", "a", "ab", "b", "é"},
		":*:a":  {":.c:a", ":.d:a", "a", "ab"},
		"a":     {"a", "ab"},
		":.:":   {":plain", "a", "ab", "b", "é"},
		":.:a":  {"a", "ab"},
		":.::":  {":plain"},
		":.::.": {},
		":.c:":  {":.c:a", ":.c:x"},
		":.c:x": {":.c:x"},
		"zz":    {},
	} {
		assert.Equal(t, want, append([]string{}, w.s.Names(prefix)...), prefix)
	}
	_, changes, err := w.s.DeleteSubject("a", false)
	w.do(changes, err)
	_, changes, err = w.s.DeleteSubject("a", true)
	w.do(changes, err)
	w.register("aa", `"int"`)
	assert.Equal(t, []string{"aa", "ab"}, w.s.Names("a"))
}

func TestTheCacheStaysWithinItsBytes(t *testing.T) {
	c := newCache[int](10_000)
	for i := range 1000 {
		c.put(digest{byte(i), byte(i >> 8)}, i, 100)
		require.LessOrEqual(t, c.bytes, 10_000)
		require.Len(t, c.items, c.recent.Len())
	}
	_, ok := c.get(digest{0, 0})
	assert.False(t, ok)
	got, ok := c.get(digest{byte(999 & 255), byte(999 >> 8)})
	assert.True(t, ok)
	assert.Equal(t, 999, got)
	c.put(digest{1, 2, 3}, 1, 9_000)
	_, ok = c.get(digest{1, 2, 3})
	assert.False(t, ok, "too large to keep")
}

// TestAReferenceBomb: each level refers to the next one twice under different
// names; walking every path would take 2^40 steps.
func TestAReferenceBomb(t *testing.T) {
	w := begin(t)
	w.do([]Change{{Kind: ConfigChange, Config: Config{CompatibilityLevel: "NONE"}}}, nil)
	w.register("s0", `{"type":"record","name":"R0","fields":[]}`)
	for i := 1; i <= 40; i++ {
		below := fmt.Sprintf("s%d", i-1)
		_, changes, err := w.s.Register(w.p, Registration{
			Subject: fmt.Sprintf("s%d", i), ID: NoID,
			Text: fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"r","type":"R%d"}]}`,
				i, i-1),
			References: []Reference{
				{fmt.Sprintf("a%d", i), below, 1}, {fmt.Sprintf("b%d", i), below, 1},
			},
		})
		w.do(changes, err)
	}
	many := make([]Reference, 1001)
	for i := range many {
		many[i] = Reference{fmt.Sprintf("r%d", i), "s0", 1}
	}
	_, _, err := w.s.Register(w.p, Registration{
		Subject: "t", ID: NoID, Text: `"int"`,
		References: many,
	})
	assert.ErrorIs(t, err, InvalidSchema)
	assert.ErrorContains(t, err, "more than 1000 references")
}

func TestASchemaOfThousandsOfSubjects(t *testing.T) {
	w := begin(t)
	for i := range 5000 {
		w.register(fmt.Sprintf("s%04d", i), `"string"`)
	}
	uses, err := w.s.UsesOf(1, "", false)
	require.NoError(t, err)
	assert.Len(t, uses, 5000)
	assert.True(t, slices.IsSortedFunc(uses, func(a, b Use) int {
		return strings.Compare(a.Subject, b.Subject)
	}))
	_, changes, err := w.s.DeleteSubject("s0007", false)
	w.do(changes, err)
	uses, err = w.s.UsesOf(1, "", false)
	require.NoError(t, err)
	assert.Len(t, uses, 4999)
}
