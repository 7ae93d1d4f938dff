package ledger

import (
	"slices"
	"sync"
)

// State is everything that the registry knows, indexed so that no request
// walks through all of it. Any number of goroutines may read it while one
// applies records.
//
// What its maps hold is never changed once it is there: Apply puts a new
// Subject, Entry or Config in the place of the old one, so that a reader may
// go on with what it got. A slice only grows at its end, in place, beyond the
// length that earlier readers see; anything else copies it.
//
// A draft is a state on top of another: it sees what the other one holds, and
// keeps what is applied to it for itself. With it a group of requests is
// decided, each on what those before it will have done, before anything is
// written.
type State struct {
	mu    sync.RWMutex
	below *State

	// In a draft a nil value says that the key is no longer there.
	subjects  map[string]*Subject
	contexts  map[string]*context
	entries   map[Key]*Entry
	contents  map[GUID]*identity
	referrers map[Use]*referrers
	configs   map[string]*Config
	modes     map[string]*Mode

	names names // of the subjects; not in a draft
}

// Key is an id in its context.
type Key struct {
	Context string
	ID      ID
}

// Use is a version of a subject.
type Use struct {
	Subject string
	Version Version
}

// Subject is the versions of a subject, by rising number, soft-deleted ones
// too. It never changes and is never empty.
type Subject struct {
	Name     string
	Versions []Registered
	// Live is the number of versions that are not deleted.
	Live int
	// latest is the position of the newest of them, -1 if there is none.
	latest int
	// referring is the number of versions that have references.
	referring int
}

// Registered is a version of a subject.
type Registered struct {
	Version Version
	ID      ID
	Deleted bool
	// Time is when it was registered, in milliseconds since 1970.
	Time    int64
	Content *Content
}

// Entry is a schema under its id, and where it is registered. It never changes.
type Entry struct {
	Key
	Content *Content
	// Uses are the versions that have the id, soft-deleted ones too, in no
	// order.
	Uses []Use
	// live is the number of them that are not deleted.
	live int
}

// context is what a context counts.
type context struct {
	recorded bool // has a record of its own
	maxID    ID
	subjects int
	live     int // subjects that are not deleted
}

// identity is a content and the ids that it has.
type identity struct {
	content *Content
	keys    []Key
}

// referrers are the ids of the schemas that refer to a version.
type referrers struct{ keys []Key }

// NewState returns the state before the first record.
func NewState() *State {
	return &State{
		subjects: map[string]*Subject{}, contexts: map[string]*context{},
		entries: map[Key]*Entry{}, contents: map[GUID]*identity{},
		referrers: map[Use]*referrers{}, configs: map[string]*Config{}, modes: map[string]*Mode{},
	}
}

// Draft returns a draft on top of s. It is of use until a record is applied to
// s.
func (s *State) Draft() *State {
	d := NewState()
	d.below = s
	return d
}

// find returns what a key stands for, or nil. The caller holds s.mu.
func find[K comparable, V any](s *State, of func(*State) map[K]*V, k K) *V {
	if v, ok := of(s)[k]; ok || s.below == nil {
		return v
	}
	return read(s.below, of, k)
}

// read is find for a caller that does not hold s.mu.
func read[K comparable, V any](s *State, of func(*State) map[K]*V, k K) *V {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return find(s, of, k)
}

// put sets what a key stands for; nil takes it away. The caller holds s.mu.
func put[K comparable, V any](s *State, m map[K]*V, k K, v *V) {
	if v == nil && s.below == nil {
		delete(m, k)
		return
	}
	m[k] = v
}

func subjects(s *State) map[string]*Subject   { return s.subjects }
func contexts(s *State) map[string]*context   { return s.contexts }
func entries(s *State) map[Key]*Entry         { return s.entries }
func contents(s *State) map[GUID]*identity    { return s.contents }
func referrersOf(s *State) map[Use]*referrers { return s.referrers }
func configs(s *State) map[string]*Config     { return s.configs }
func modes(s *State) map[string]*Mode         { return s.modes }

// Subject returns a subject by its qualified name, or nil if it has no version.
func (s *State) Subject(name string) *Subject { return read(s, subjects, name) }

// Entry returns the schema of an id, or nil.
func (s *State) Entry(context string, id ID) *Entry {
	return read(s, entries, Key{context, id})
}

// Content returns the content of a GUID and the ids that it has, or nil.
func (s *State) Content(guid GUID) (*Content, []Key) {
	i := read(s, contents, guid)
	if i == nil {
		return nil, nil
	}
	keys := slices.Clone(i.keys)
	slices.SortFunc(keys, compareKeys)
	return i.content, keys
}

// MaxID returns the largest id that a context has ever used, and 0 before the
// first.
func (s *State) MaxID(name string) ID { return s.context(name).maxID }

func (s *State) context(name string) context {
	if c := read(s, contexts, name); c != nil {
		return *c
	}
	return context{}
}

// hasContext tells whether a context has a record or a subject.
func (s *State) hasContext(name string) bool {
	c := read(s, contexts, name)
	return c != nil && (c.recorded || c.subjects > 0)
}

// root returns the state that a draft stands on, or s.
func (s *State) root() *State {
	for s.below != nil {
		s = s.below
	}
	return s
}

// Contexts returns the names of all contexts, sorted; the default one is
// always among them. Like Names it does not see what a draft adds.
func (s *State) Contexts() []string {
	s = s.root()
	all := []string{DefaultContext}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, c := range s.contexts {
		if name != DefaultContext && c != nil && (c.recorded || c.subjects > 0) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// referring returns the ids of the schemas that refer to a version, sorted:
// those in use, or with deleted also those that are only in soft-deleted
// versions. A version of the subject except does not count as use.
func (s *State) referring(to Use, deleted bool, except string) []ID {
	r := read(s, referrersOf, to)
	if r == nil {
		return nil
	}
	var ids []ID
	for _, key := range r.keys {
		e := s.Entry(key.Context, key.ID)
		if e != nil && (deleted || e.live > 0) && (except == "" || s.usedBeyond(e, except)) {
			ids = append(ids, key.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// usedBeyond tells whether a schema is in use in another subject.
func (s *State) usedBeyond(e *Entry, subject string) bool {
	return slices.ContainsFunc(e.Uses, func(u Use) bool {
		return u.Subject != subject && s.live(u)
	})
}

// live tells whether a version is there and not deleted.
func (s *State) live(u Use) bool {
	v, ok := s.Subject(u.Subject).Find(u.Version)
	return ok && !v.Deleted
}

// ReferencedBy returns the ids of the schemas that refer to a version, sorted.
// Soft-deleted ones count with deleted only.
func (s *State) ReferencedBy(subject string, version Version, deleted bool) []ID {
	return s.referring(Use{subject, version}, deleted, "")
}

// Find returns a version by its number, soft-deleted or not; Latest stands for
// the newest that is not deleted. The subject may be nil.
func (u *Subject) Find(version Version) (Registered, bool) {
	if u == nil {
		return Registered{}, false
	}
	if version == Latest {
		if u.latest < 0 {
			return Registered{}, false
		}
		return u.Versions[u.latest], true
	}
	i, ok := u.position(version)
	if !ok {
		return Registered{}, false
	}
	return u.Versions[i], true
}

func (u *Subject) position(version Version) (int, bool) {
	return slices.BinarySearchFunc(u.Versions, version, func(r Registered, v Version) int {
		return int(int64(r.Version) - int64(v))
	})
}

// next returns the number that the next version gets. The subject may be nil.
func (u *Subject) next() Version {
	if u == nil {
		return 1
	}
	return u.Versions[len(u.Versions)-1].Version + 1
}

// has tells whether the subject has versions; with deleted, soft-deleted ones
// count.
func (u *Subject) has(deleted bool) bool { return u != nil && (deleted || u.Live > 0) }

func compareKeys(a, b Key) int {
	if a.Context != b.Context {
		if a.Context < b.Context {
			return -1
		}
		return 1
	}
	return int(int64(a.ID) - int64(b.ID))
}
