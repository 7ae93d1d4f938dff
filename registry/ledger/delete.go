package ledger

import "strconv"

// DeleteVersion decides what deleting a version does. asked is the version as
// the caller wrote it, for messages. A version must be deleted softly before
// it can be deleted for good.
func (s *State) DeleteVersion(
	subject string, version Version, asked string, permanent bool,
) (Version, []Change, error) {
	name := ParseName(subject)
	full := name.String()
	u := s.Subject(full)
	v, ok := u.Find(version)
	switch {
	case u == nil:
		return 0, nil, SubjectNotFound.With(visible(full))
	case !ok:
		return 0, nil, VersionNotFound.With(version)
	case v.Deleted && !permanent:
		return 0, nil, VersionSoftDeleted.With(visible(full), visible(asked))
	}
	if err := s.writable(name); err != nil {
		return 0, nil, err
	}
	if len(s.referring(Use{full, v.Version}, false, "")) > 0 {
		return 0, nil, ReferenceExists.With(visible(full), v.Version)
	}
	if !permanent {
		return v.Version, []Change{{
			Kind: SchemaChange, Subject: full, Version: v.Version,
			ID: v.ID, Content: v.Content, Deleted: true,
		}}, nil
	}
	if !v.Deleted {
		return 0, nil, VersionNotSoftDeleted.With(visible(full), strconv.Itoa(int(v.Version)))
	}
	return v.Version, s.forget(name, u, []Registered{v}), nil
}

// DeleteSubject decides what deleting a subject does, and returns the versions
// that it deletes: those that are not deleted yet or, for good, all of them.
func (s *State) DeleteSubject(subject string, permanent bool) ([]Version, []Change, error) {
	name := ParseName(subject)
	full := name.String()
	u := s.Subject(full)
	switch {
	case u == nil:
		return nil, nil, SubjectNotFound.With(visible(full))
	case u.Live == 0 && !permanent:
		return nil, nil, SubjectSoftDeleted.With(visible(full))
	}
	if err := s.writable(name); err != nil {
		return nil, nil, err
	}
	var versions []Version
	for _, v := range u.Versions {
		if v.Deleted && !permanent {
			continue
		}
		if len(s.referring(Use{full, v.Version}, false, full)) > 0 {
			return nil, nil, ReferenceExists.With(visible(full), v.Version)
		}
		versions = append(versions, v.Version)
	}
	if !permanent {
		return versions, []Change{{
			Kind: SubjectDelete, Subject: full,
			Version: versions[len(versions)-1],
		}}, nil
	}
	if u.Live > 0 {
		return nil, nil, SubjectNotSoftDeleted.With(visible(full))
	}
	return versions, s.forget(name, u, u.Versions), nil
}

// forget returns what deletes versions for good. The last one takes config and
// mode of the subject with it; and where the largest id of the context goes,
// the context remembers it, so that no id ever means another schema.
func (s *State) forget(name Name, u *Subject, versions []Registered) []Change {
	var all []Change
	maxID := s.MaxID(name.Context)
	for _, v := range versions {
		if v.ID == maxID {
			all = append(all, Change{Kind: ContextChange, Context: name.Context, MaxID: maxID})
			break
		}
	}
	for _, v := range versions {
		all = append(all, Change{
			Kind: SchemaChange, Removed: true, Subject: u.Name,
			Version: v.Version,
		})
	}
	if len(versions) < len(u.Versions) {
		return all
	}
	if _, ok := s.Config(u.Name); ok {
		all = append(all, Change{Kind: ConfigChange, Removed: true, Subject: u.Name})
	}
	if _, ok := s.Mode(u.Name); ok {
		all = append(all, Change{Kind: ModeChange, Removed: true, Subject: u.Name})
	}
	return all
}

// DeleteContext decides what deleting a context does. It must have no subject,
// soft-deleted ones included; its config and mode go with it.
func (s *State) DeleteContext(context string) ([]Change, error) {
	c := s.context(context)
	switch {
	case c.subjects > 0 || context == DefaultContext:
		return nil, ContextNotEmpty.With(visible(context))
	case !s.hasContext(context):
		return nil, NotFound.With()
	}
	scope := Name{Context: context}.Scope()
	all := []Change{{Kind: ContextChange, Removed: true, Context: context}}
	if _, ok := s.Config(scope); ok {
		all = append(all, Change{Kind: ConfigChange, Removed: true, Subject: scope})
	}
	if _, ok := s.Mode(scope); ok {
		all = append(all, Change{Kind: ModeChange, Removed: true, Subject: scope})
	}
	return all, nil
}
