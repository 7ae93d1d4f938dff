// Package setting is the one table of broker and topic settings: their names,
// types, ranges, defaults and documentation, and how the layers that may set
// them resolve to one value.
package setting

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
)

// Scope says what a setting belongs to.
type Scope int

// The scopes.
const (
	ScopeBroker Scope = iota // a node, or all nodes as a default
	ScopeTopic               // a topic
)

// String returns "broker" or "topic".
func (s Scope) String() string {
	if s == ScopeTopic {
		return "topic"
	}
	return "broker"
}

// Type says how the text of a value is read.
type Type int

// The types, named as Kafka names them.
const (
	Bool   Type = iota // true or false, in any case
	Int                // a decimal number of 32 bits
	Long               // a decimal number of 64 bits
	Double             // a decimal fraction
	String             // one of the setting's values
	List               // one or more of the setting's values, with commas between
)

var typeNames = [...]string{"boolean", "int", "long", "double", "string", "list"}

// String returns Kafka's name of the type, in lower case.
func (t Type) String() string { return typeNames[t] }

// Unit says what a number counts.
type Unit string

// The units.
const (
	UnitNone    Unit = ""
	UnitMillis  Unit = "ms"
	UnitMinutes Unit = "minutes"
	UnitHours   Unit = "hours"
	UnitBytes   Unit = "bytes"
)

// Setting is a row of the table. Rows never change.
type Setting struct {
	Name  string
	Scope Scope
	Type  Type
	// Default is the text of the value that holds where nobody set one. It is
	// empty for a setting that is only another way to write a later synonym.
	Default string
	// Min and Max bound a number, inclusive.
	Min, Max float64
	// Step, if it is not 0, is what an Int or a Long must be a multiple of.
	Step int64
	// Values are the texts that a String or a List takes.
	Values []string
	Unit   Unit
	// Dynamic settings may be changed while the node runs; others are read at
	// start, from flags, environment or file. Topic settings are all dynamic.
	Dynamic bool
	// Synonyms are the broker settings that give the default, the first that
	// is set winning. For a broker setting they are other ways to write it, of
	// lower precedence, e.g. log.retention.hours for log.retention.ms.
	Synonyms []string
	// Doc is one or two sentences on the effect.
	Doc string
}

// Lookup returns the setting of a scope by its name.
func Lookup(scope Scope, name string) (*Setting, bool) {
	s, ok := index[scope][name]
	return s, ok
}

// Names returns the sorted names of a scope. The slice is the caller's.
func Names(scope Scope) []string {
	return slices.Sorted(maps.Keys(index[scope]))
}

// TopicNames returns the sorted names of all topic settings.
func TopicNames() []string { return Names(ScopeTopic) }

// All returns the table, broker settings first, each scope sorted by name.
func All() []*Setting {
	var all []*Setting
	for _, scope := range []Scope{ScopeBroker, ScopeTopic} {
		for _, name := range Names(scope) {
			all = append(all, index[scope][name])
		}
	}
	return all
}

// Check reports whether value is a legal value of a setting. The error is
// fault.InvalidConfig and names the setting, the value, and what would be
// right.
func Check(scope Scope, name, value string) error {
	s, ok := Lookup(scope, name)
	if !ok {
		return unknown(scope, name, value)
	}
	return s.Check(value)
}

// CheckDynamic is Check for a change of a running node: it also refuses a
// broker setting that is read only at start.
func CheckDynamic(scope Scope, name, value string) error {
	if err := Check(scope, name, value); err != nil {
		return err
	}
	if s, _ := Lookup(scope, name); !s.Dynamic {
		return s.invalid(value).Because(
			"it is read at start only: give the node --set %s=... and restart it", name)
	}
	return nil
}

// CheckName reports whether a setting of that name exists, as Check does.
func CheckName(scope Scope, name string) error {
	if _, ok := Lookup(scope, name); !ok {
		return unknown(scope, name, "")
	}
	return nil
}

// Check reports whether value is legal, as the function Check does.
func (s *Setting) Check(value string) error {
	value = strings.TrimSpace(value)
	ok := false
	switch s.Type {
	case Bool:
		ok = strings.EqualFold(value, "true") || strings.EqualFold(value, "false")
	case Int, Long:
		n, err := strconv.ParseInt(value, 10, 64)
		ok = err == nil && s.holds(n)
	case Double:
		n, err := strconv.ParseFloat(value, 64)
		ok = err == nil && n >= s.Min && n <= s.Max
	case String:
		ok = slices.Contains(s.Values, value)
	case List:
		ok = s.holdsAll(split(value))
	}
	if !ok {
		return s.invalid(value).Because("it takes %s", s.Allowed())
	}
	return nil
}

// holds compares in whole numbers: a float64 cannot tell the last longs apart.
func (s *Setting) holds(n int64) bool {
	return n >= int64(s.Min) && (s.Max >= math.MaxInt64 || n <= int64(s.Max)) &&
		(s.Step == 0 || n%s.Step == 0)
}

// holdsAll reports whether every item is one of the values, none of them twice.
func (s *Setting) holdsAll(items []string) bool {
	for i, item := range items {
		if !slices.Contains(s.Values, item) || slices.Contains(items[:i], item) {
			return false
		}
	}
	return len(items) > 0
}

// Allowed describes the legal values, e.g. "an int from 1 to 10000".
func (s *Setting) Allowed() string {
	switch s.Type {
	case Bool:
		return "true or false"
	case Int, Long, Double:
		text := "a " + s.Type.String()
		if s.Type == Int {
			text = "an int"
		}
		text += " from " + number(s.Min)
		if s.Max < s.typeMax() {
			text += " to " + number(s.Max)
		} else {
			text += " up"
		}
		if s.Unit != UnitNone {
			text += " (" + string(s.Unit) + ")"
		}
		if s.Step != 0 {
			text += ", a multiple of " + strconv.FormatInt(s.Step, 10)
		}
		return text
	case List:
		return "a list, with commas between, of " + strings.Join(s.Values, ", ")
	}
	return "one of " + strings.Join(s.Values, ", ")
}

// typeMax is the bound that the type itself has.
func (s *Setting) typeMax() float64 {
	switch s.Type {
	case Int:
		return math.MaxInt32
	case Long:
		return math.MaxInt64
	}
	return math.MaxFloat64
}

func (s *Setting) invalid(value string) *fault.Error {
	return fault.InvalidConfig.With("name", s.Name, "value", value, "allowed", s.Allowed())
}

// number writes a bound without an exponent.
func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// split reads a list: items between commas, space around them ignored.
func split(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// unknown is the error for a name that no setting has; it proposes the nearest.
func unknown(scope Scope, name, value string) error {
	err := fault.InvalidConfig.With("name", name, "value", value)
	if near := nearest(scope, name); near != "" {
		return err.Because("there is no such %s setting; did you mean %s?", scope, near)
	}
	if scope == ScopeTopic {
		return err.Because("there is no such topic setting; there are %s",
			strings.Join(TopicNames(), ", "))
	}
	return err.Because("there is no such broker setting")
}

const nameBytesMax = 100 // longer than any name; bounds the work of nearest

// nearest returns the name that differs least from a mistyped one, or "" if
// all differ by more than a third of it.
func nearest(scope Scope, name string) string {
	if len(name) > nameBytesMax {
		return ""
	}
	best, bestDistance := "", len(name)/3+1
	for _, candidate := range Names(scope) {
		if d := distance(name, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
