package ledger

import (
	"crypto/md5" //nolint:gosec // the identity of a schema is an MD5 by definition
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
)

// Reference names a version of a subject whose types a schema uses.
type Reference struct {
	Name    string  `json:"name"`
	Subject string  `json:"subject"`
	Version Version `json:"version"`
}

// Metadata is what users attach to a schema; it is part of its identity.
type Metadata struct {
	Tags       map[string][]string `json:"tags,omitempty"`
	Properties map[string]string   `json:"properties,omitempty"`
	Sensitive  []string            `json:"sensitive,omitempty"`
}

// RuleSet is the rules that clients apply; the registry keeps and returns
// them, and they are part of the schema's identity.
type RuleSet struct {
	MigrationRules []Rule `json:"migrationRules,omitempty"`
	DomainRules    []Rule `json:"domainRules,omitempty"`
	EncodingRules  []Rule `json:"encodingRules,omitempty"`
	EnableAt       string `json:"enableAt,omitempty"`
}

// Rule is one rule of a rule set.
type Rule struct {
	Name      string            `json:"name,omitempty"`
	Doc       string            `json:"doc,omitempty"`
	Kind      string            `json:"kind,omitempty"`
	Mode      string            `json:"mode,omitempty"`
	Type      string            `json:"type,omitempty"`
	Tags      []string          `json:"tags,omitempty"`
	Params    map[string]string `json:"params,omitempty"`
	Expr      string            `json:"expr,omitempty"`
	OnSuccess string            `json:"onSuccess,omitempty"`
	OnFailure string            `json:"onFailure,omitempty"`
	Disabled  bool              `json:"disabled"`
}

// GUID identifies a schema everywhere: the MD5 of its content.
type GUID [md5.Size]byte

// String returns the GUID in the form of a UUID.
func (g GUID) String() string {
	h := hex.EncodeToString(g[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseGUID reads the form that String writes, in any case.
func ParseGUID(text string) (g GUID, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return g, false
	}
	n, err := hex.Decode(g[:], []byte(strings.ReplaceAll(text, "-", "")))
	return g, err == nil && n == len(g)
}

// Content is what a schema is, whatever its id and its subjects: the canonical
// text and all that belongs to its identity. It never changes; there is one
// for each GUID in a state.
type Content struct {
	Text       string
	References []Reference
	Metadata   *Metadata
	Rules      *RuleSet
	GUID       GUID
}

// NewContent returns the content and computes its GUID. The arguments are the
// content's from then on.
func NewContent(text string, refs []Reference, meta *Metadata, rules *RuleSet) *Content {
	c := &Content{Text: text, References: refs, Metadata: meta, Rules: rules}
	sum := md5.New() //nolint:gosec // see above
	_, _ = io.WriteString(sum, text)
	for _, r := range refs {
		write(sum, r.Name, r.Subject)
		_ = binary.Write(sum, binary.BigEndian, int32(r.Version))
	}
	meta.hash(sum)
	rules.hash(sum)
	sum.Sum(c.GUID[:0])
	return c
}

// same compares what two GUIDs that are equal stand for: texts are joined
// without lengths before they are hashed, so that different contents can meet.
func (c *Content) same(o *Content) bool {
	return c == o || c.Text == o.Text && slices.Equal(c.References, o.References) &&
		c.Metadata.equal(o.Metadata) && c.Rules.equal(o.Rules)
}

func write(sum hash.Hash, texts ...string) {
	for _, t := range texts {
		_, _ = io.WriteString(sum, t)
	}
}

func writeMap(sum hash.Hash, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		write(sum, k, m[k])
	}
}

func (m *Metadata) hash(sum hash.Hash) {
	if m == nil {
		return
	}
	_, _ = sum.Write([]byte{1})
	for _, k := range slices.Sorted(maps.Keys(m.Tags)) {
		write(sum, k)
		write(sum, m.Tags[k]...)
	}
	writeMap(sum, m.Properties)
	write(sum, m.Sensitive...)
}

// normalized returns the metadata with its sets sorted and without doubles.
func (m *Metadata) normalized() *Metadata {
	if m == nil {
		return nil
	}
	n := &Metadata{Properties: m.Properties, Sensitive: set(m.Sensitive)}
	if len(m.Tags) > 0 {
		n.Tags = make(map[string][]string, len(m.Tags))
		for k, v := range m.Tags {
			n.Tags[k] = set(v)
		}
	}
	return n
}

func set(values []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

func (m *Metadata) equal(o *Metadata) bool {
	if m == nil || o == nil {
		return m == o
	}
	return maps.EqualFunc(m.Tags, o.Tags, slices.Equal) &&
		maps.Equal(m.Properties, o.Properties) && slices.Equal(m.Sensitive, o.Sensitive)
}

// merge returns m with what newer says on top; either may be nil.
func (m *Metadata) merge(newer *Metadata) *Metadata {
	if m == nil {
		return newer
	}
	if newer == nil {
		return m
	}
	n := &Metadata{Tags: maps.Clone(m.Tags), Properties: maps.Clone(m.Properties)}
	if n.Tags == nil {
		n.Tags = map[string][]string{}
	}
	if n.Properties == nil {
		n.Properties = map[string]string{}
	}
	maps.Copy(n.Tags, newer.Tags)
	maps.Copy(n.Properties, newer.Properties)
	n.Sensitive = set(append(slices.Clone(m.Sensitive), newer.Sensitive...))
	return n
}

// property returns a property of metadata that may be nil.
func (m *Metadata) property(name string) string {
	if m == nil {
		return ""
	}
	return m.Properties[name]
}
