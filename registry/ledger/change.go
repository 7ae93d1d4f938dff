package ledger

import "strings"

// Mode says what may be done with a subject, a context or all of them.
type Mode string

// The modes.
const (
	ReadWrite        Mode = "READWRITE"
	ReadOnly         Mode = "READONLY"
	ReadOnlyOverride Mode = "READONLY_OVERRIDE"
	Import           Mode = "IMPORT"
	Forward          Mode = "FORWARD"
)

// ParseMode reads a mode in any case, and returns false where there is none of
// that name.
func ParseMode(text string) (Mode, bool) {
	m := Mode(strings.ToUpper(text))
	switch m {
	case ReadWrite, ReadOnly, ReadOnlyOverride, Import, Forward:
		return m, true
	}
	return "", false
}

// Config is what is set for a subject, a context or all of them. Empty fields
// are not set.
type Config struct {
	Alias              string    `json:"alias,omitempty"`
	Normalize          *bool     `json:"normalize,omitempty"`
	ValidateFields     *bool     `json:"validateFields,omitempty"`
	ValidateNewSchemas *bool     `json:"validateNewSchemas,omitempty"`
	ValidateRules      *bool     `json:"validateRules,omitempty"`
	CompatibilityLevel string    `json:"compatibilityLevel,omitempty"`
	CompatibilityGroup string    `json:"compatibilityGroup,omitempty"`
	DefaultMetadata    *Metadata `json:"defaultMetadata,omitempty"`
	OverrideMetadata   *Metadata `json:"overrideMetadata,omitempty"`
	DefaultRuleSet     *RuleSet  `json:"defaultRuleSet,omitempty"`
	OverrideRuleSet    *RuleSet  `json:"overrideRuleSet,omitempty"`
}

// over returns c with the fields of newer that are set.
func (c Config) over(newer Config) Config {
	n := c
	for _, p := range []struct{ have, want *string }{
		{&n.Alias, &newer.Alias},
		{&n.CompatibilityLevel, &newer.CompatibilityLevel},
		{&n.CompatibilityGroup, &newer.CompatibilityGroup},
	} {
		if *p.want != "" {
			*p.have = *p.want
		}
	}
	for _, p := range []struct{ have, want **bool }{
		{&n.Normalize, &newer.Normalize},
		{&n.ValidateFields, &newer.ValidateFields},
		{&n.ValidateNewSchemas, &newer.ValidateNewSchemas},
		{&n.ValidateRules, &newer.ValidateRules},
	} {
		if *p.want != nil {
			*p.have = *p.want
		}
	}
	if newer.DefaultMetadata != nil {
		n.DefaultMetadata = newer.DefaultMetadata
	}
	if newer.OverrideMetadata != nil {
		n.OverrideMetadata = newer.OverrideMetadata
	}
	if newer.DefaultRuleSet != nil {
		n.DefaultRuleSet = newer.DefaultRuleSet
	}
	if newer.OverrideRuleSet != nil {
		n.OverrideRuleSet = newer.OverrideRuleSet
	}
	return n
}

// Empty tells whether nothing is set.
func (c Config) Empty() bool { return c == Config{} }

// normalized returns the config with its metadata and rules in one form.
func (c Config) normalized() Config {
	c.DefaultMetadata = c.DefaultMetadata.normalized()
	c.OverrideMetadata = c.OverrideMetadata.normalized()
	c.DefaultRuleSet = c.DefaultRuleSet.normalized()
	c.OverrideRuleSet = c.OverrideRuleSet.normalized()
	return c
}

// ChangeKind says what a record of the log is about.
type ChangeKind string

// The kinds of changes, as the keytype of a record names them.
const (
	SchemaChange  ChangeKind = "SCHEMA"
	ConfigChange  ChangeKind = "CONFIG"
	ModeChange    ChangeKind = "MODE"
	SubjectDelete ChangeKind = "DELETE_SUBJECT"
	SubjectClear  ChangeKind = "CLEAR_SUBJECT"
	ContextChange ChangeKind = "CONTEXT"
	NoChange      ChangeKind = "NOOP"
)

// Change is a record of the log, decoded. Which fields count depends on Kind.
type Change struct {
	// Kind says what the record is about.
	Kind ChangeKind
	// Removed says that the record is a tombstone.
	Removed bool
	// Subject is the qualified name of the subject; for config and mode also
	// that of a context, and "" is all of the registry.
	Subject string
	// Version is the version of a SCHEMA, and the last version deleted by a
	// DELETE_SUBJECT.
	Version Version
	// ID, Content and Deleted are those of a SCHEMA.
	ID      ID
	Content *Content
	Deleted bool
	// Config and Mode are what is set.
	Config Config
	Mode   Mode
	// Context is the name of a CONTEXT, MaxID the largest id that it has ever
	// used, as far as the schemas no longer tell.
	Context string
	MaxID   ID
	// Time is when the record was written, in milliseconds since 1970.
	Time int64
}
