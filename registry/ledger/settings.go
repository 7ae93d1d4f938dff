package ledger

import (
	"slices"
	"strings"

	"github.com/sluicelog/sluice/internal/avro"
)

// SetConfig decides what setting the config of a subject, a context or, for
// "", the registry does. Fields that update leaves empty stay as they are. The
// level may be written in any case.
func (s *State) SetConfig(subject string, update Config) (Config, []Change, error) {
	name := ParseName(subject)
	if err := checkScope(name); err != nil {
		return Config{}, nil, err
	}
	if update.CompatibilityLevel != "" || update.Empty() {
		level, ok := avro.ParseLevel(update.CompatibilityLevel)
		if !ok {
			return Config{}, nil, InvalidLevel.With()
		}
		update.CompatibilityLevel = level.String()
	}
	update = update.normalized()
	for _, rules := range []*RuleSet{update.DefaultRuleSet, update.OverrideRuleSet} {
		if err := rules.check(); err != nil {
			return Config{}, nil, err
		}
	}
	if err := s.writable(name); err != nil {
		return Config{}, nil, err
	}
	old, _ := s.Config(name.String())
	return update, []Change{{
		Kind: ConfigChange, Subject: name.String(),
		Config: old.over(update),
	}}, nil
}

// DeleteConfig decides what deleting a config does, and returns what it was.
func (s *State) DeleteConfig(subject string) (Config, []Change, error) {
	name := ParseName(subject)
	old, ok := s.Config(name.String())
	if !ok && name.String() != "" {
		return Config{}, nil, SubjectNotFound.With(visible(name.String()))
	}
	if err := s.writable(name); err != nil {
		return Config{}, nil, err
	}
	if !ok {
		return Config{CompatibilityLevel: DefaultLevel}, nil, nil
	}
	return old, []Change{{Kind: ConfigChange, Removed: true, Subject: name.String()}}, nil
}

// checkScope refuses names that config and mode cannot be set for.
func checkScope(name Name) error {
	if hasControl(name.String()) || name.Subject == globalSubject || name.Subject == emptySubject ||
		name.Context == GlobalContext && name.Subject != "" {
		return InvalidSubject.With(visible(name.String()))
	}
	return nil
}

// SetMode decides what setting a mode does. What enters IMPORT must have no
// subject that is not deleted, and loses those that are, unless force is set.
func (s *State) SetMode(subject, mode string, force bool) (Mode, []Change, error) {
	name := ParseName(subject)
	if err := checkScope(name); err != nil {
		return "", nil, err
	}
	m, ok := ParseMode(mode)
	if !ok {
		return "", nil, InvalidMode.With()
	}
	var all []Change
	if m == Import && !force && s.ModeInScope(name.String()) != Import {
		cleared, err := s.clear(name)
		if err != nil {
			return "", nil, err
		}
		all = cleared
	}
	return m, append(all, Change{Kind: ModeChange, Subject: name.String(), Mode: m}), nil
}

// clear returns what deletes all that is soft-deleted in a scope for good.
func (s *State) clear(name Name) ([]Change, error) {
	within := s.within(name)
	for _, subject := range within {
		if s.Subject(subject).has(false) {
			return nil, NotPermitted.With("Cannot import since found existing subjects")
		}
	}
	var all []Change
	for _, subject := range within {
		u := s.Subject(subject)
		if u == nil {
			continue
		}
		for _, v := range u.Versions {
			if len(s.referring(Use{subject, v.Version}, false, subject)) > 0 {
				return nil, ReferenceExists.With(visible(subject), v.Version)
			}
		}
		kept := s.forget(ParseName(subject), u, u.Versions)
		all = append(all, slices.DeleteFunc(kept, func(c Change) bool {
			return c.Kind == ConfigChange || c.Kind == ModeChange
		})...)
	}
	return all, nil
}

// within returns the subjects of a scope: one, those of a context, or, for
// the whole registry, those of the default context.
func (s *State) within(name Name) []string {
	switch {
	case name.Subject != "":
		return []string{name.String()}
	case name.Context == GlobalContext:
		return s.Names(AllContexts)
	case name.Context != DefaultContext:
		return s.Names(name.Scope())
	}
	return s.Names(NoContext)
}

// DeleteMode decides what deleting a mode does, and returns what it was. With
// recursive the modes of all subjects within a context or the registry go too;
// it is "" for a context that had none itself.
func (s *State) DeleteMode(subject string, recursive bool) (Mode, []Change, error) {
	name := ParseName(subject)
	old, ok := s.Mode(name.String())
	var all []Change
	switch {
	case ok:
		all = append(all, Change{Kind: ModeChange, Removed: true, Subject: name.String()})
	case name.String() == "":
		old = ReadWrite
	}
	if recursive && name.Subject == "" {
		for _, below := range s.modesBelow(name) {
			all = append(all, Change{Kind: ModeChange, Removed: true, Subject: below})
		}
	}
	if old == "" && len(all) == 0 {
		return "", nil, SubjectNotFound.With(visible(name.String()))
	}
	return old, all, nil
}

// modesBelow returns the names within a scope that have a mode, sorted.
func (s *State) modesBelow(name Name) []string {
	s = s.root()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var below []string
	for scope := range s.modes {
		every := name.String() == ""
		if scope != name.String() && (every || strings.HasPrefix(scope, name.Scope())) {
			below = append(below, scope)
		}
	}
	slices.Sort(below)
	return below
}

// AliasesOf returns the subjects that stand for each subject by config.
func (s *State) AliasesOf() map[string][]string {
	s = s.root()
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string][]string{}
	for subject, c := range s.configs {
		if c.Alias != "" {
			target := ParseName(subject).In(c.Alias).String()
			all[target] = append(all[target], subject)
		}
	}
	for _, aliases := range all {
		slices.Sort(aliases)
	}
	return all
}
