package ledger

import (
	"fmt"
	"slices"
)

// Apply makes a change true. It is the only way in which a state changes. An
// error says that the change contradicts what is there; the state is as before
// then, on every node alike.
func (s *State) Apply(c Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.Kind {
	case SchemaChange:
		if c.Removed {
			s.drop(c.Subject, c.Version)
			return nil
		}
		return s.register(c)
	case SubjectDelete:
		if !c.Removed {
			s.deleteUpTo(c.Subject, c.Version)
		}
	case ConfigChange:
		config := c.Config.normalized()
		put(s, s.configs, c.Subject, unless(c.Removed, &config))
	case ModeChange:
		put(s, s.modes, c.Subject, unless(c.Removed, &c.Mode))
	case ContextChange:
		s.changeContext(c.Context, func(x *context) {
			x.recorded = !c.Removed
			x.maxID = max(x.maxID, c.MaxID)
			if c.Removed && x.subjects == 0 {
				x.maxID = 0
			}
		})
	}
	return nil
}

func unless[V any](removed bool, v *V) *V {
	if removed {
		return nil
	}
	return v
}

func (s *State) register(c Change) error {
	name := ParseName(c.Subject)
	key := Key{name.Context, c.ID}
	if e := find(s, entries, key); e != nil && !e.Content.same(c.Content) {
		return fmt.Errorf("id %d of context %s already is another schema than version %d of %q",
			c.ID, name.Context, c.Version, c.Subject)
	}
	content := c.Content
	if known := find(s, contents, content.GUID); known != nil {
		if !known.content.same(content) {
			return fmt.Errorf("GUID %s already is another schema than version %d of %q",
				content.GUID, c.Version, c.Subject)
		}
		content = known.content
	}
	v := Registered{
		Version: c.Version, ID: c.ID, Deleted: c.Deleted, Time: c.Time,
		Content: content,
	}
	if old, ok := find(s, subjects, c.Subject).Find(c.Version); ok {
		if old.ID == c.ID {
			v.Time = old.Time
		}
		s.drop(c.Subject, c.Version)
	}
	s.changeContext(name.Context, func(x *context) { x.maxID = max(x.maxID, c.ID) })
	s.use(key, content, Use{c.Subject, c.Version}, !c.Deleted)
	s.changeSubject(c.Subject, func(u *Subject) { u.insert(v) })
	return nil
}

// drop forgets a version wholly, and its id with the last version that has it.
func (s *State) drop(subject string, version Version) {
	v, ok := find(s, subjects, subject).Find(version)
	if !ok || version < 1 {
		return
	}
	s.changeSubject(subject, func(u *Subject) {
		i, _ := u.position(version)
		u.Versions = slices.Delete(slices.Clone(u.Versions), i, i+1)
	})
	s.unuse(Key{ParseName(subject).Context, v.ID}, Use{subject, version}, !v.Deleted)
}

// deleteUpTo marks versions as deleted, up to and including one.
func (s *State) deleteUpTo(subject string, last Version) {
	u := find(s, subjects, subject)
	if u == nil || u.Live == 0 {
		return
	}
	for _, v := range u.Versions {
		if v.Version <= last && !v.Deleted {
			s.changeEntry(Key{ParseName(subject).Context, v.ID}, func(e *Entry) { e.live-- })
		}
	}
	s.changeSubject(subject, func(u *Subject) {
		u.Versions = slices.Clone(u.Versions)
		for i := range u.Versions {
			if u.Versions[i].Version <= last {
				u.Versions[i].Deleted = true
			}
		}
	})
}

// changeSubject puts a changed copy of a subject in its place, and counts.
func (s *State) changeSubject(name string, change func(*Subject)) {
	old := find(s, subjects, name)
	u := Subject{Name: name}
	if old != nil {
		u = *old
	}
	change(&u)
	u.count(old)
	gone := len(u.Versions) == 0
	s.changeContext(ParseName(name).Context, func(x *context) {
		x.subjects += one(!gone) - one(old != nil)
		x.live += one(u.Live > 0) - one(old.has(false))
	})
	if gone {
		put(s, s.subjects, name, nil)
		s.names.remove(s, name)
		return
	}
	put(s, s.subjects, name, &u)
	if old == nil {
		s.names.add(s, name)
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// insert puts a version in its place, which is the end but for imports.
func (u *Subject) insert(v Registered) {
	i, _ := u.position(v.Version)
	if i == len(u.Versions) {
		u.Versions = append(u.Versions, v)
		return
	}
	u.Versions = slices.Insert(slices.Clone(u.Versions), i, v)
}

// count counts the versions; where one was added at the end, only that.
func (u *Subject) count(old *Subject) {
	from := 0
	if old != nil && len(u.Versions) == len(old.Versions)+1 &&
		u.Versions[len(old.Versions)-1] == old.Versions[len(old.Versions)-1] {
		from = len(old.Versions)
	} else {
		u.Live, u.latest, u.referring = 0, -1, 0
	}
	for i := from; i < len(u.Versions); i++ {
		if len(u.Versions[i].Content.References) > 0 {
			u.referring++
		}
		if !u.Versions[i].Deleted {
			u.Live, u.latest = u.Live+1, i
		}
	}
}

func (s *State) changeContext(name string, change func(*context)) {
	var c context
	if old := find(s, contexts, name); old != nil {
		c = *old
	}
	change(&c)
	put(s, s.contexts, name, unless(c == context{}, &c))
}

// use adds a version to the schema of an id, which is made if it is new.
func (s *State) use(key Key, content *Content, by Use, live bool) {
	if find(s, entries, key) == nil {
		put(s, s.entries, key, &Entry{Key: key, Content: content})
		s.changeIdentity(content, func(i *identity) { i.keys = append(i.keys, key) })
		s.changeReferrers(key, content, func(r *referrers) { r.keys = append(r.keys, key) })
	}
	s.changeEntry(key, func(e *Entry) {
		e.Uses = append(e.Uses, by)
		e.live += one(live)
	})
}

// unuse takes a version away from the schema of an id, and the schema with the
// last one.
func (s *State) unuse(key Key, by Use, live bool) {
	e := find(s, entries, key)
	if e == nil {
		return
	}
	if len(e.Uses) > 1 {
		s.changeEntry(key, func(e *Entry) {
			i := slices.Index(e.Uses, by)
			e.Uses = slices.Delete(slices.Clone(e.Uses), i, i+1)
			e.live -= one(live)
		})
		return
	}
	put(s, s.entries, key, nil)
	s.changeIdentity(e.Content, func(i *identity) { i.keys = without(i.keys, key) })
	s.changeReferrers(key, e.Content, func(r *referrers) { r.keys = without(r.keys, key) })
}

func without(keys []Key, key Key) []Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return k == key })
}

func (s *State) changeEntry(key Key, change func(*Entry)) {
	e := *find(s, entries, key)
	change(&e)
	put(s, s.entries, key, &e)
}

func (s *State) changeIdentity(content *Content, change func(*identity)) {
	i := identity{content: content}
	if old := find(s, contents, content.GUID); old != nil {
		i = *old
	}
	change(&i)
	put(s, s.contents, content.GUID, unless(len(i.keys) == 0, &i))
}

// changeReferrers changes who refers to each version that a schema refers to.
func (s *State) changeReferrers(key Key, content *Content, change func(*referrers)) {
	in := Name{Context: key.Context}
	seen := make(map[Use]bool, len(content.References))
	for _, ref := range content.References {
		to := Use{in.In(ref.Subject).String(), ref.Version}
		if seen[to] {
			continue
		}
		seen[to] = true
		var r referrers
		if old := find(s, referrersOf, to); old != nil {
			r = *old
		}
		change(&r)
		put(s, s.referrers, to, unless(len(r.keys) == 0, &r))
	}
}
