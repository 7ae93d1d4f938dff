package ledger

import (
	"slices"
	"strconv"
	"strings"
)

// ParseVersion reads a version as callers write it: a number from 1 to 2^31-1,
// "latest" in any case, or "-1", which is the same.
func ParseVersion(text string) (Version, error) {
	trimmed := strings.TrimSpace(text)
	if strings.EqualFold(trimmed, "latest") {
		return Latest, nil
	}
	n, err := strconv.ParseInt(trimmed, 10, 32)
	if err != nil || n < 1 && n != int64(Latest) || strings.HasPrefix(trimmed, "+") {
		return 0, InvalidVersion.With(visible(text))
	}
	return Version(n), nil
}

// Get returns a version of a subject. A subject without a context is looked
// for in every context. With deleted, soft-deleted versions count, but Latest
// never stands for one.
func (s *State) Get(subject string, version Version, deleted bool) (Answer, error) {
	name := ParseName(subject)
	for candidate := range s.inContexts(name) {
		full := candidate.String()
		v, ok := s.Subject(full).Find(version)
		if ok && (deleted || !v.Deleted) {
			return Answer{Subject: full, Registered: v}, nil
		}
	}
	if !s.Subject(name.String()).has(deleted) {
		return Answer{}, SubjectNotFound.With(visible(name.String()))
	}
	return Answer{}, VersionNotFound.With(version)
}

// Versions returns the versions of a subject. Soft-deleted ones count with
// deleted; with only no others do.
func (s *State) Versions(subject string, deleted, only bool) ([]Registered, error) {
	full := Qualify(subject)
	u := s.Subject(full)
	if !u.has(deleted || only) {
		return nil, SubjectNotFound.With(visible(full))
	}
	found := make([]Registered, 0, len(u.Versions))
	for _, v := range u.Versions {
		if only && v.Deleted || !only && (deleted || !v.Deleted) {
			found = append(found, v)
		}
	}
	return found, nil
}

// Subjects returns the qualified names of the subjects that begin with prefix,
// sorted; see Names. Those that are soft-deleted count with deleted; with only
// no others do.
func (s *State) Subjects(prefix string, deleted, only bool) []string {
	var found []string
	for _, name := range s.Names(prefix) {
		u := s.Subject(name)
		if u != nil && (only && u.Live == 0 || !only && u.has(deleted)) {
			found = append(found, name)
		}
	}
	return found
}

// ByID returns the schema of an id. The subject says in which context, and "" or
// the name of a context is enough for that; a subject without a context that
// has the id in another one is found there.
func (s *State) ByID(id ID, subject string) (Answer, error) {
	name := ParseName(subject)
	for candidate := range s.inContexts(name) {
		if name.Subject == "" {
			break
		}
		full := candidate.String()
		u := s.Subject(full)
		if u == nil {
			continue
		}
		if v, ok := s.useIn(u, Key{candidate.Context, id}); ok {
			return Answer{Subject: full, Registered: v}, nil
		}
	}
	e := s.Entry(name.Context, id)
	if e == nil {
		return Answer{}, SchemaIDNotFound.With(id)
	}
	use := e.Uses[0]
	return Answer{Subject: use.Subject, Registered: Registered{
		Version: use.Version, ID: id, Content: e.Content,
	}}, nil
}

// UsesOf returns where an id is registered, by subject and version; soft-deleted
// versions with deleted only. The subject narrows it down as in ByID.
func (s *State) UsesOf(id ID, subject string, deleted bool) ([]Use, error) {
	name := ParseName(subject)
	e := s.Entry(name.Context, id)
	for candidate := range s.inContexts(name) {
		if u := s.Subject(candidate.String()); u != nil && name.Subject != "" {
			if _, ok := s.useIn(u, Key{candidate.Context, id}); ok {
				e = s.Entry(candidate.Context, id)
				break
			}
		}
	}
	if e == nil {
		return nil, SchemaNotFound.With()
	}
	found := make([]Use, 0, len(e.Uses))
	for _, use := range e.Uses {
		if deleted || s.live(use) {
			found = append(found, use)
		}
	}
	slices.SortFunc(found, func(a, b Use) int {
		if n := strings.Compare(a.Subject, b.Subject); n != 0 {
			return n
		}
		return int(int64(a.Version) - int64(b.Version))
	})
	return found, nil
}

// WithMetadata returns the newest version of a subject whose metadata has all
// of some properties.
func (s *State) WithMetadata(
	subject string, properties map[string]string, deleted bool,
) (Answer, error) {
	full := Qualify(subject)
	u := s.Subject(full)
	if !u.has(deleted) {
		return Answer{}, SubjectNotFound.With(visible(full))
	}
	for _, v := range slices.Backward(u.Versions) {
		if v.Deleted && !deleted || v.Content.Metadata == nil {
			continue
		}
		all := true
		for k, want := range properties {
			have, ok := v.Content.Metadata.Properties[k]
			all = all && ok && have == want
		}
		if all {
			return Answer{Subject: full, Registered: v}, nil
		}
	}
	return Answer{}, SchemaNotFound.With()
}

// Resolved returns the text of a schema with all that it refers to written out.
func (s *State) Resolved(p *Parser, subject string, c *Content) (string, error) {
	parsed, err := p.stored(s, ParseName(subject), c)
	if err != nil {
		return "", StoreFailed.With("Error while reading the schema: " + err.Error())
	}
	return parsed.schema.Resolved(), nil
}

// Qualified returns references whose subjects name their context.
func Qualified(subject string, refs []Reference) []Reference {
	name := ParseName(subject)
	refs = slices.Clone(refs)
	for i := range refs {
		refs[i].Subject = name.In(refs[i].Subject).String()
	}
	return refs
}

// HasRule tells whether a rule of a type belongs to the schema.
func (c *Content) HasRule(kind string) bool { return c.Rules.uses(kind) }
