package ledger

import "github.com/sluicelog/sluice/internal/avro"

// DefaultLevel is the compatibility level where none is set.
const DefaultLevel = "BACKWARD"

// Config returns what is set for exactly one subject, context or, for "", the
// whole registry.
func (s *State) Config(subject string) (Config, bool) {
	if c := read(s, configs, subject); c != nil {
		return *c, true
	}
	return Config{}, false
}

// ConfigInScope returns what counts for a subject: its own config, that of its
// context, that of the registry, or the default; the first that is set. Its
// level is never empty.
func (s *State) ConfigInScope(subject string) Config {
	for _, scope := range scopes(subject) {
		if c, ok := s.Config(scope); ok {
			if c.CompatibilityLevel == "" {
				c.CompatibilityLevel = s.levelBeyond(subject, scope)
			}
			return c
		}
	}
	return Config{CompatibilityLevel: DefaultLevel}
}

// levelBeyond returns the level of the first scope after one that sets none.
func (s *State) levelBeyond(subject, after string) string {
	passed := false
	for _, scope := range scopes(subject) {
		if c, ok := s.Config(scope); passed && ok && c.CompatibilityLevel != "" {
			return c.CompatibilityLevel
		}
		passed = passed || scope == after
	}
	return DefaultLevel
}

// scopes returns under which names config and mode of a subject are looked
// for, the nearest first.
func scopes(subject string) []string {
	n := ParseName(subject)
	global := Name{Context: GlobalContext}.Scope()
	all := []string{n.String()}
	for _, scope := range []string{n.Scope(), "", global} {
		if scope != all[len(all)-1] {
			all = append(all, scope)
		}
	}
	return all
}

// Mode returns the mode of exactly one subject, context or, for "", the whole
// registry.
func (s *State) Mode(subject string) (Mode, bool) {
	if m := read(s, modes, subject); m != nil {
		return *m, true
	}
	return "", false
}

// ModeInScope returns the mode that counts for a subject.
func (s *State) ModeInScope(subject string) Mode {
	if m, _ := s.Mode(""); m == ReadOnlyOverride {
		return m
	}
	for _, scope := range scopes(subject) {
		if m, ok := s.Mode(scope); ok {
			return m
		}
	}
	return ReadWrite
}

// Alias returns the subject that a subject stands for: its alias, where it has
// one, or itself.
func (s *State) Alias(subject string) string {
	name := ParseName(subject)
	if c, ok := s.Config(name.String()); ok && c.Alias != "" && name.Subject != "" {
		return name.In(c.Alias).String()
	}
	return name.String()
}

// writable refuses changes where the mode does not allow them.
func (s *State) writable(name Name) error {
	switch s.ModeInScope(name.String()) {
	case ReadOnly, ReadOnlyOverride:
		return notPermitted(name, "is in read-only mode")
	}
	return nil
}

func notPermitted(name Name, what string) error {
	return NotPermitted.With("Subject " + visible(name.Subject) + " in context " +
		visible(name.Context) + " " + what)
}

// level returns the level of a config.
func (c Config) level() avro.Level {
	level, ok := avro.ParseLevel(c.CompatibilityLevel)
	if !ok {
		return avro.LevelBackward
	}
	return level
}

// isSet tells whether a switch is set and on.
func isSet(b *bool) bool { return b != nil && *b }
