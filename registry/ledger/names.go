package ledger

import (
	"slices"
	"sort"
	"strings"
)

// names is the qualified names of all subjects, sorted. Changes wait until
// someone asks, so that a million of them cost one pass.
type names struct {
	sorted  []string // never changed in place
	added   map[string]bool
	removed map[string]bool
}

func (n *names) add(s *State, name string) {
	if s.below != nil {
		return
	}
	if n.added == nil {
		n.added = map[string]bool{}
	}
	delete(n.removed, name)
	n.added[name] = true
}

func (n *names) remove(s *State, name string) {
	if s.below != nil {
		return
	}
	if n.removed == nil {
		n.removed = map[string]bool{}
	}
	delete(n.added, name)
	n.removed[name] = true
}

// settle puts the waiting changes in their places.
func (n *names) settle() {
	fresh := make([]string, 0, len(n.added))
	for name := range n.added {
		fresh = append(fresh, name)
	}
	slices.Sort(fresh)
	merged := make([]string, 0, len(n.sorted)+len(fresh))
	for _, name := range n.sorted {
		for len(fresh) > 0 && fresh[0] < name {
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		}
		if len(fresh) > 0 && fresh[0] == name {
			fresh = fresh[1:]
		}
		if !n.removed[name] {
			merged = append(merged, name)
		}
	}
	n.sorted, n.added, n.removed = append(merged, fresh...), nil, nil
}

// all returns all names, sorted. The slice must not be changed.
func (s *State) all() []string {
	s = s.root()
	s.mu.RLock()
	sorted, settled := s.names.sorted, len(s.names.added)+len(s.names.removed) == 0
	s.mu.RUnlock()
	if settled {
		return sorted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names.settle()
	return s.names.sorted
}

// Names returns the qualified names of the subjects that begin with prefix,
// sorted, soft-deleted ones too. A prefix that begins with ":*:" is looked for
// in every context, one that begins with ":.:" in the default one; the empty one
// is that of all names. A draft answers with the names of the state that it
// stands on. The slice must not be changed.
func (s *State) Names(prefix string) []string {
	all := s.all()
	if rest, ok := strings.CutPrefix(prefix, NoContext); ok {
		return withoutContexts(between(all, rest))
	}
	rest, every := strings.CutPrefix(prefix, AllContexts)
	switch {
	case every && rest == "":
		return all
	case !every:
		return between(all, prefix)
	}
	found := slices.Clone(between(all, rest))
	for _, context := range s.Contexts() {
		if context != DefaultContext {
			found = append(found, between(all, Name{context, rest}.String())...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// NamesToo returns what Names does, and the subjects that have an alias which
// begins with prefix; aliases is what AliasesOf returns.
func (s *State) NamesToo(prefix string, aliases map[string][]string) []string {
	found := slices.Clone(s.Names(prefix))
	for subject, names := range aliases {
		if slices.ContainsFunc(names, func(name string) bool { return begins(name, prefix) }) {
			found = append(found, subject)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// begins tells whether Names would find a name by a prefix.
func begins(name, prefix string) bool {
	n := ParseName(name)
	if rest, ok := strings.CutPrefix(prefix, NoContext); ok {
		return n.Context == DefaultContext && strings.HasPrefix(name, rest)
	}
	if rest, ok := strings.CutPrefix(prefix, AllContexts); ok {
		return strings.HasPrefix(name, rest) || strings.HasPrefix(n.Subject, rest)
	}
	return strings.HasPrefix(name, prefix)
}

// withoutContexts returns the names of the default context. Those of all others
// begin with ":.", and so stand together.
func withoutContexts(names []string) []string {
	others := between(names, ":.")
	if len(others) == 0 {
		return names
	}
	from := sort.SearchStrings(names, others[0])
	return slices.Concat(names[:from], names[from+len(others):])
}

// between returns the names that begin with prefix.
func between(all []string, prefix string) []string {
	from := sort.SearchStrings(all, prefix)
	to := from + sort.Search(len(all)-from, func(i int) bool {
		return !strings.HasPrefix(all[from+i], prefix)
	})
	return all[from:to]
}
