package avro

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ReasonType names a kind of incompatibility as Avro Java does.
type ReasonType string

// The kinds of incompatibility.
const (
	NameMismatch       ReasonType = "NAME_MISMATCH"
	FixedSizeMismatch  ReasonType = "FIXED_SIZE_MISMATCH"
	MissingEnumSymbols ReasonType = "MISSING_ENUM_SYMBOLS"
	MissingDefault     ReasonType = "READER_FIELD_MISSING_DEFAULT_VALUE"
	TypeMismatch       ReasonType = "TYPE_MISMATCH"
	MissingUnionBranch ReasonType = "MISSING_UNION_BRANCH"
)

// Reason is one reason why a reader cannot read what a writer wrote.
type Reason struct {
	// Type is the kind of reason.
	Type ReasonType
	// Location is the JSON pointer of the place in the reader's schema, as
	// Avro Java gives it: "/" is the root, and what is in a branch of a
	// union starts at the root again.
	Location string
	// Message says what differs, in Avro Java's words.
	Message string
	// Reader and Writer are the types that do not fit.
	Reader, Writer *Type
}

// AmbiguousError says that a field of the reader has a name and an alias, or
// two aliases, that are both fields of the writer. Avro Java throws; the
// schemas are not compatible.
type AmbiguousError struct {
	// Field is the reader's field and Position its place, from 0.
	Field    *Field
	Position int
	// Writer is the writer's record.
	Writer *Type
}

// Error returns Avro Java's text, which the registry's messages carry.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf(
		"Reader record field %s type:%s pos:%d matches multiple fields in writer record schema %s",
		e.Field.name, e.Field.typ.kind.upper(), e.Position, e.Writer)
}

// location is a place in the reader's schema: a step below another place.
type location struct {
	parent *location
	step   stepKind
	index  int32
}

type stepKind uint8

const (
	toBranch stepKind = iota // the branch of that index
	toField                  // the type of the field of that index
	toItems
	toValues
)

// rootPlace is where every comparison begins.
var rootPlace = &location{}

func (l *location) to(step stepKind, index int) *location {
	return &location{parent: l, step: step, index: int32(index)}
}

func (l *location) tokens() []string {
	var tokens []string
	for ; l != rootPlace; l = l.parent {
		switch l.step {
		case toBranch:
			tokens = append(tokens, strconv.Itoa(int(l.index)))
		case toField:
			tokens = append(tokens, "type", strconv.Itoa(int(l.index)), "fields")
		case toItems:
			tokens = append(tokens, "items")
		case toValues:
			tokens = append(tokens, "values")
		}
	}
	slices.Reverse(tokens)
	return tokens
}

// outcome is what was found for a pair: a reason, or two outcomes in order, or
// nothing. count is the number of reasons in all, cut at reasonCount. Reasons
// are a tree because those of a shared type can be part of exponentially many
// others, and keep no texts because most are thrown away.
type outcome struct {
	first, second *outcome
	count         int32
	index         int32 // of the branch or field that the reason is about, or -1
	kind          ReasonType
	r, w          *Type
	at            *location
}

var fine = &outcome{}

func wrong(kind ReasonType, at *location, r, w *Type, index int) *outcome {
	return &outcome{count: 1, kind: kind, at: at, r: r, w: w, index: int32(index)}
}

func both(a, b *outcome) *outcome {
	switch {
	case a.count == 0:
		return b
	case b.count == 0:
		return a
	}
	return &outcome{first: a, second: b, count: min(a.count+b.count, reasonCount)}
}

// reasons writes the reasons out, in order.
func (o *outcome) reasons() []Reason {
	if o.count == 0 {
		return nil
	}
	all := make([]Reason, 0, o.count)
	rest := []*outcome{o}
	for len(rest) > 0 && len(all) < reasonCount {
		o, rest = rest[len(rest)-1], rest[:len(rest)-1]
		if o.first != nil {
			rest = append(rest, o.second, o.first)
			continue
		}
		all = append(all, o.reason())
	}
	return all
}

// reason writes the texts of one reason.
func (o *outcome) reason() Reason {
	r := Reason{Type: o.kind, Reader: o.r, Writer: o.w}
	tokens := o.at.tokens()
	switch o.kind {
	case NameMismatch:
		tokens = append(tokens, "name")
		r.Message = "expected: " + o.w.full
	case FixedSizeMismatch:
		tokens = append(tokens, "size")
		r.Message = fmt.Sprintf("expected: %d, found: %d", o.w.size, o.r.size)
	case MissingEnumSymbols:
		tokens = append(tokens, "symbols")
		r.Message = "[" + strings.Join(missingSymbols(o.r, o.w), ", ") + "]"
	case TypeMismatch:
		r.Message = "reader type: " + o.r.kind.upper() + " not compatible with writer type: " +
			o.w.kind.upper()
	case MissingUnionBranch:
		branch := o.w
		if o.index >= 0 {
			branch = o.w.branches[o.index]
			tokens = append(tokens, strconv.Itoa(int(o.index)))
		}
		r.Message = "reader union lacking writer type: " + branch.kind.upper()
	case MissingDefault:
		tokens = append(tokens, "fields", strconv.Itoa(int(o.index)))
		r.Message = o.r.fields[o.index].name
	}
	r.Location = "/" + strings.Join(tokens, "/")
	return r
}

func missingSymbols(r, w *Type) []string {
	var missing []string
	for _, s := range w.symbols {
		if r.symbol(s) < 0 {
			missing = append(missing, s)
		}
	}
	slices.SortFunc(missing, compareUTF16)
	return missing
}
