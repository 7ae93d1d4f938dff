package ledger

import (
	"iter"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/internal/avro"
)

// Lookup finds a schema in a subject by what it is. With deleted, soft-deleted
// versions count. Where there is no such subject the schema is not looked at.
func (s *State) Lookup(p *Parser, r Registration, deleted bool) (Answer, error) {
	name := ParseName(r.Subject)
	if !s.somewhere(name, deleted) {
		return Answer{}, SubjectNotFound.With(visible(name.String()))
	}
	r.Rules, r.Metadata = r.Rules.normalized(), r.Metadata.normalized()
	if r.Type != "" && r.Type != AvroType {
		return Answer{}, InvalidSchema.With("Invalid schema type " + visible(r.Type))
	}
	r.Normalize = r.Normalize || isSet(s.ConfigInScope(name.String()).Normalize)
	if r.Text == "" {
		return Answer{}, InvalidSchema.With("Empty schema")
	}
	for candidate := range s.inContexts(name) {
		a, err := s.lookup(p, candidate, r, deleted)
		if err == nil {
			return a, nil
		}
		if candidate == name && !isNotFound(err) {
			return Answer{}, err
		}
	}
	if !s.Subject(name.String()).has(deleted) {
		return Answer{}, SubjectNotFound.With(visible(name.String()))
	}
	return Answer{}, SchemaNotFound.With()
}

// somewhere tells whether a subject has versions in a context that it may mean.
func (s *State) somewhere(name Name, deleted bool) bool {
	for candidate := range s.inContexts(name) {
		if s.Subject(candidate.String()).has(deleted) {
			return true
		}
	}
	return false
}

func isNotFound(err error) bool {
	p, ok := ProblemOf(err)
	return ok && p.Kind == SchemaNotFound
}

// inContexts returns the names that a name may mean when something is read: a
// subject without a context may be in any.
func (s *State) inContexts(name Name) iter.Seq[Name] {
	return func(yield func(Name) bool) {
		if !yield(name) || name.Context != DefaultContext || name.Subject == "" {
			return
		}
		for _, context := range s.Contexts() {
			if context != DefaultContext && !yield(Name{context, name.Subject}) {
				return
			}
		}
	}
}

func (s *State) lookup(p *Parser, name Name, r Registration, deleted bool) (Answer, error) {
	u := s.Subject(name.String())
	next, err := p.parse(s, name, r.Text, r.References,
		way{mode: avro.Lenient, normalize: r.Normalize})
	if err != nil {
		return Answer{}, invalid(r, err)
	}
	if u == nil {
		return Answer{}, SchemaNotFound.With()
	}
	content := NewContent(next.text, next.refs, r.Metadata, r.Rules)
	if v, ok := s.inSubject(u, content, deleted); ok {
		return Answer{Subject: u.Name, Registered: v}, nil
	}
	if latest, ok := u.Find(Latest); ok && r.Metadata == nil && r.Rules == nil {
		content = NewContent(next.text, next.refs, latest.Content.Metadata, latest.Content.Rules)
		if v, ok := s.inSubject(u, content, deleted); ok {
			return Answer{Subject: u.Name, Registered: v}, nil
		}
	}
	if v, ok := s.writtenOut(p, name, u, next, deleted); ok {
		return Answer{Subject: u.Name, Registered: v}, nil
	}
	return Answer{}, SchemaNotFound.With()
}

// present finds a content that is registered in a subject and not deleted.
func (s *State) present(u *Subject, content *Content) (Answer, bool) {
	if u == nil {
		return Answer{}, false
	}
	v, ok := s.inSubject(u, content, false)
	return Answer{Subject: u.Name, Registered: v}, ok
}

// inSubject finds the version of a subject that has a content: the newest that
// is not deleted, or with deleted the newest.
func (s *State) inSubject(u *Subject, content *Content, deleted bool) (v Registered, ok bool) {
	known, keys := s.Content(content.GUID)
	if known == nil || !known.same(content) {
		return v, false
	}
	context := ParseName(u.Name).Context
	for _, key := range keys {
		if key.Context != context {
			continue
		}
		found, has := s.useIn(u, key)
		if has && (deleted || !found.Deleted) && (!ok || v.Deleted && !found.Deleted) {
			v, ok = found, true
		}
	}
	return v, ok
}

// useIn finds the newest version of a subject that has an id, one that is not
// deleted before any other. It looks at whichever of the two has less to look
// at: the subject's versions or the id's uses.
func (s *State) useIn(u *Subject, key Key) (best Registered, ok bool) {
	better := func(v Registered) {
		if !ok || best.Deleted && !v.Deleted || best.Deleted == v.Deleted &&
			v.Version > best.Version {
			best, ok = v, true
		}
	}
	e := s.Entry(key.Context, key.ID)
	if e != nil && len(e.Uses) < len(u.Versions) {
		for _, use := range e.Uses {
			if v, has := u.Find(use.Version); has && use.Subject == u.Name && v.ID == key.ID {
				better(v)
			}
		}
		return best, ok
	}
	for _, v := range u.Versions {
		if v.ID == key.ID {
			better(v)
		}
	}
	return best, ok
}

// writtenOut finds a version with references that is the same as a schema that
// has all of them written out.
func (s *State) writtenOut(
	p *Parser, name Name, u *Subject, next *parsed, deleted bool,
) (Registered, bool) {
	if len(next.refs) > 0 || u.referring == 0 {
		return Registered{}, false
	}
	text := next.schema.Resolved()
	for _, v := range slices.Backward(u.Versions) {
		if len(v.Content.References) == 0 || v.Deleted && !deleted {
			continue
		}
		old, err := p.stored(s, name, v.Content)
		if err == nil && old.schema.Resolved() == text {
			return v, true
		}
	}
	return Registered{}, false
}

// javaList writes messages as Java writes a list.
func javaList(messages []string) string { return "[" + strings.Join(messages, ", ") + "]" }
