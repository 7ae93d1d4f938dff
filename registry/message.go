package registry

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// registrationOf reads the schema of a message.
func registrationOf(
	subject string, m *registryv1.Schema, normalize bool,
) ledger.Registration {
	r := ledger.Registration{
		Subject: subject, Text: m.GetSchema(), ID: ledger.NoID, Normalize: normalize,
		Metadata: metadataOf(m.GetMetadata()), Rules: rulesOf(m.GetRuleSet()),
	}
	for _, ref := range m.GetReferences() {
		r.References = append(r.References, ledger.Reference{
			Name: ref.GetName(), Subject: ref.GetSubject(),
			Version: ledger.Version(ref.GetVersion()),
		})
	}
	return r
}

func contentMessage(c *ledger.Content) *registryv1.Schema {
	m := &registryv1.Schema{
		Schema: c.Text, Metadata: metadataMessage(c.Metadata), RuleSet: rulesMessage(c.Rules),
	}
	for _, ref := range c.References {
		m.References = append(m.References, &registryv1.Reference{
			Name: ref.Name, Subject: ref.Subject, Version: int32(ref.Version),
		})
	}
	return m
}

// schemaMessage writes a schema, with resolved all that it refers to.
func (s *service) schemaMessage(
	state *ledger.State, a ledger.Answer, resolved bool,
) (*registryv1.Schema, error) {
	m := contentMessage(a.Content)
	if !resolved {
		return m, nil
	}
	var err error
	m.Schema, err = state.Resolved(s.r.parser, a.Subject, a.Content)
	return m, err
}

// versionMessage writes a version with its schema.
func versionMessage(a ledger.Answer) *registryv1.SubjectVersion {
	m := bareVersion(a.Subject, a.Registered)
	m.Schema = contentMessage(a.Content)
	return m
}

// bareVersion writes a version without its schema.
func bareVersion(subject string, v ledger.Registered) *registryv1.SubjectVersion {
	m := &registryv1.SubjectVersion{
		Subject: subject, Version: int32(v.Version), Id: int32(v.ID),
		Guid: v.Content.GUID.String(), Deleted: v.Deleted,
	}
	if v.Time != 0 {
		m.CreateTime = timestamppb.New(time.UnixMilli(v.Time))
	}
	return m
}

func metadataOf(m *registryv1.Metadata) *ledger.Metadata {
	if m == nil {
		return nil
	}
	meta := &ledger.Metadata{Properties: m.GetProperties(), Sensitive: m.GetSensitive()}
	for path, tags := range m.GetTags() {
		if meta.Tags == nil {
			meta.Tags = make(map[string][]string, len(m.GetTags()))
		}
		meta.Tags[path] = tags.GetTags()
	}
	return meta
}

func metadataMessage(meta *ledger.Metadata) *registryv1.Metadata {
	if meta == nil {
		return nil
	}
	m := &registryv1.Metadata{Properties: meta.Properties, Sensitive: meta.Sensitive}
	for path, tags := range meta.Tags {
		if m.Tags == nil {
			m.Tags = make(map[string]*registryv1.Tags, len(meta.Tags))
		}
		m.Tags[path] = &registryv1.Tags{Tags: tags}
	}
	return m
}

func rulesOf(m *registryv1.RuleSet) *ledger.RuleSet {
	if m == nil {
		return nil
	}
	list := func(rules []*registryv1.Rule) (all []ledger.Rule) {
		for _, r := range rules {
			all = append(all, ledger.Rule{
				Name: r.GetName(), Doc: r.GetDoc(), Kind: r.GetKind(), Mode: r.GetMode(),
				Type: r.GetType(), Tags: r.GetTags(), Params: r.GetParams(), Expr: r.GetExpr(),
				OnSuccess: r.GetOnSuccess(), OnFailure: r.GetOnFailure(), Disabled: r.GetDisabled(),
			})
		}
		return all
	}
	return &ledger.RuleSet{
		MigrationRules: list(m.GetMigrationRules()), DomainRules: list(m.GetDomainRules()),
		EncodingRules: list(m.GetEncodingRules()), EnableAt: m.GetEnableAt(),
	}
}

func rulesMessage(rules *ledger.RuleSet) *registryv1.RuleSet {
	if rules == nil {
		return nil
	}
	list := func(rules []ledger.Rule) (all []*registryv1.Rule) {
		for _, r := range rules {
			all = append(all, &registryv1.Rule{
				Name: r.Name, Doc: r.Doc, Kind: r.Kind, Mode: r.Mode, Type: r.Type, Tags: r.Tags,
				Params: r.Params, Expr: r.Expr, OnSuccess: r.OnSuccess, OnFailure: r.OnFailure,
				Disabled: r.Disabled,
			})
		}
		return all
	}
	return &registryv1.RuleSet{
		MigrationRules: list(rules.MigrationRules), DomainRules: list(rules.DomainRules),
		EncodingRules: list(rules.EncodingRules), EnableAt: rules.EnableAt,
	}
}

const (
	levelPrefix = "COMPATIBILITY_LEVEL_"
	modePrefix  = "MODE_"
)

// modeOf returns the name of a mode, and "" for none.
func modeOf(m registryv1.Mode) string {
	if m == registryv1.Mode_MODE_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(m.String(), modePrefix)
}

func modeMessage(m ledger.Mode) registryv1.Mode {
	return registryv1.Mode(registryv1.Mode_value[modePrefix+string(m)])
}

func configOf(m *registryv1.Config) ledger.Config {
	c := ledger.Config{
		Alias: m.GetAlias(), CompatibilityGroup: m.GetCompatibilityGroup(),
		DefaultMetadata:  metadataOf(m.GetDefaultMetadata()),
		OverrideMetadata: metadataOf(m.GetOverrideMetadata()),
		DefaultRuleSet:   rulesOf(m.GetDefaultRuleSet()),
		OverrideRuleSet:  rulesOf(m.GetOverrideRuleSet()),
	}
	if m != nil {
		c.Normalize, c.ValidateFields = m.Normalize, m.ValidateFields
		c.ValidateNewSchemas, c.ValidateRules = m.ValidateNewSchemas, m.ValidateRules
	}
	if level := m.GetCompatibilityLevel(); level != 0 {
		c.CompatibilityLevel = strings.TrimPrefix(level.String(), levelPrefix)
	}
	return c
}

func configMessage(c ledger.Config) *registryv1.Config {
	return &registryv1.Config{
		CompatibilityLevel: registryv1.CompatibilityLevel(
			registryv1.CompatibilityLevel_value[levelPrefix+c.CompatibilityLevel]),
		CompatibilityGroup: c.CompatibilityGroup, Alias: c.Alias,
		Normalize: c.Normalize, ValidateFields: c.ValidateFields,
		ValidateNewSchemas: c.ValidateNewSchemas, ValidateRules: c.ValidateRules,
		DefaultMetadata:  metadataMessage(c.DefaultMetadata),
		OverrideMetadata: metadataMessage(c.OverrideMetadata),
		DefaultRuleSet:   rulesMessage(c.DefaultRuleSet),
		OverrideRuleSet:  rulesMessage(c.OverrideRuleSet),
	}
}
