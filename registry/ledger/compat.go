package ledger

import (
	"slices"

	"github.com/sluicelog/sluice/internal/avro"
)

// Check tells whether a schema may follow a version of a subject, by the level
// that is set for it: the messages say why not, in the registry's words; none
// if it may. The version Latest of a subject without one is followed by any
// schema; 0 is the whole history, as the level wants it.
func (s *State) Check(p *Parser, r Registration, version Version) ([]string, error) {
	name := ParseName(r.Subject)
	r.Rules, r.Metadata = r.Rules.normalized(), r.Metadata.normalized()
	if err := r.check(name); err != nil {
		return nil, err
	}
	config := s.ConfigInScope(name.String())
	r.Normalize = r.Normalize || isSet(config.Normalize)
	d := &decision{
		state: s, parser: p, name: name, subject: s.Subject(name.String()),
		config: config, mode: s.ModeInScope(name.String()),
	}
	next, content, err := d.parse(r)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return d.history(next, content)
	}
	old, ok := d.subject.Find(version)
	if !ok || old.Deleted {
		if version == Latest {
			return nil, nil
		}
		return nil, VersionNotFound.With(version)
	}
	return d.against(next, content, []Registered{old})
}

// history compares with the versions that are not deleted.
func (d *decision) history(next *parsed, content *Content) ([]string, error) {
	if d.subject == nil {
		return nil, nil
	}
	return d.against(next, content, d.subject.Versions)
}

// against compares with versions, the newest first, and returns the messages
// of the first that does not fit.
func (d *decision) against(
	next *parsed, content *Content, versions []Registered,
) ([]string, error) {
	level := d.config.level()
	if level == avro.LevelNone {
		return nil, nil
	}
	group := d.config.CompatibilityGroup
	for _, v := range slices.Backward(versions) {
		if v.Deleted || group != "" &&
			v.Content.Metadata.property(group) != content.Metadata.property(group) {
			continue
		}
		old, err := d.parser.stored(d.state, d.name, v.Content)
		if err != nil {
			return nil, StoreFailed.With("Error while reading an earlier schema: " + err.Error())
		}
		verdict := d.parser.check(level, next, old, v.Version)
		if !verdict.Compatible() {
			return verdict.Verbose(isSet(d.config.ValidateFields)), nil
		}
		if !transitive(level) {
			return nil, nil
		}
	}
	return nil, nil
}

func transitive(level avro.Level) bool {
	switch level {
	case avro.LevelBackwardTransitive, avro.LevelForwardTransitive, avro.LevelFullTransitive:
		return true
	}
	return false
}
