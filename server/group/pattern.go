package group

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
)

// The bounds of a pattern: its text, and the instructions that it compiles to.
// A short text with repeats in it can compile to millions.
const (
	patternBytesMax        = 512
	patternInstructionsMax = 10_000
)

// pattern is a compiled pattern, and what it matches of one set of topics.
type pattern struct {
	expression *regexp.Regexp
	of         *Topics
	matches    []string // sorted
}

// CheckPattern reports whether a pattern may be subscribed to. The error is
// fault.InvalidRegularExpression.
func CheckPattern(text string) error {
	refuse := func(format string, args ...any) error {
		return fault.InvalidRegularExpression.With("pattern", text).Because(format, args...)
	}
	if len(text) > patternBytesMax {
		return refuse("it has %d bytes, at most %d", len(text), patternBytesMax)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return refuse("%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if n := instructions(parsed); n > patternInstructionsMax {
		return refuse("its repeats make it too large: about %d instructions, at most %d",
			n, patternInstructionsMax)
	}
	return nil
}

// instructions estimates how many instructions an expression compiles to.
func instructions(e *syntax.Regexp) int {
	const enough = 1 << 30 // more than any bound, and far from overflow
	n := 1
	switch e.Op {
	case syntax.OpLiteral:
		n = len(e.Rune)
	case syntax.OpCharClass:
		n = 1 + len(e.Rune)/2
	}
	for _, sub := range e.Sub {
		n = min(n+instructions(sub), enough)
	}
	if e.Op == syntax.OpRepeat {
		times := max(e.Min, e.Max, 1)
		n = min(n*times, enough)
	}
	return n
}

// compile returns a pattern that matches whole names. It has been checked when
// it was subscribed to.
func compile(text string) (*pattern, error) {
	expression, err := regexp.Compile(`^(?:` + text + `)$`)
	if err != nil {
		return nil, fmt.Errorf("compiling a pattern: %w", err)
	}
	return &pattern{expression: expression}, nil
}

// Topics are the topics that exist at one time. They are not changed.
type Topics struct {
	counts   map[string]int32
	internal map[string]bool
	names    []string // of those that are not internal, sorted
}

// Topic is a topic as groups see it.
type Topic struct {
	Name           string
	PartitionCount int32
	Internal       bool
}

// NewTopics returns a set of topics.
func NewTopics(all []Topic) *Topics {
	t := &Topics{counts: make(map[string]int32, len(all)), internal: map[string]bool{}}
	for _, one := range all {
		t.counts[one.Name] = one.PartitionCount
		if one.Internal {
			t.internal[one.Name] = true
			continue
		}
		t.names = append(t.names, one.Name)
	}
	slices.Sort(t.names)
	return t
}

// matching returns the topics that a pattern matches, sorted.
func (s *state) matching(text string) []string {
	p := s.patterns[text]
	if p == nil {
		var err error
		if p, err = compile(text); err != nil {
			p = &pattern{expression: regexp.MustCompile(`$^x`)} // of a later version: none
		}
		s.patterns[text] = p
	}
	if p.of != s.topics {
		p.of, p.matches = s.topics, nil
		for _, name := range s.topics.names {
			if p.expression.MatchString(name) {
				p.matches = append(p.matches, name)
			}
		}
	}
	return p.matches
}

// forgetPatterns drops the compiled patterns that no member has.
func (s *state) forgetPatterns() {
	used := map[string]bool{}
	for _, g := range s.groups {
		for _, m := range g.members {
			used[m.pattern] = true
		}
	}
	for text := range s.patterns {
		if !used[text] {
			delete(s.patterns, text)
		}
	}
}

// topicsOf returns the topics that exist of those that a member wants, sorted.
func (s *state) topicsOf(m *member) []string {
	var found []string
	for _, name := range m.topics {
		if _, ok := s.topics.counts[name]; ok {
			found = append(found, name)
		}
	}
	if m.pattern == "" {
		return found
	}
	matches := s.matching(m.pattern)
	if len(found) == 0 {
		return matches
	}
	found = append(found, matches...)
	slices.Sort(found)
	return slices.Compact(found)
}

// hashOf returns a hash of topics with their partitions.
func (s *state) hashOf(topics []string) int64 {
	h := fnv.New64a()
	for _, name := range topics {
		fmt.Fprintf(h, "%s:%d\n", name, s.topics.counts[name])
	}
	return int64(h.Sum64())
}
