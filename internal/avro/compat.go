package avro

import (
	"errors"
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

const (
	// reasonCount bounds the reasons that Compatible collects: shared types
	// can make their number exponential.
	reasonCount = 20_000
	// pairSteps bounds the work on one pair of schemas.
	pairSteps = 1 << 20
	// pairDepth bounds how deep pairs are nested.
	pairDepth = 10_000
)

// Compatible returns every reason why reader cannot read what writer wrote,
// in Avro Java's order: none if it always can, at most 20,000 otherwise. The
// error is an *AmbiguousError, or ErrTooComplex if the schemas are made so
// that the answer would take too long; either way they count as not
// compatible. It keeps nothing between calls.
func Compatible(reader, writer *Schema) ([]Reason, error) {
	c := &comparer{memo: make(map[[2]*Type]*outcome), steps: pairSteps}
	o, err := c.root(reader.root, writer.root)
	if err != nil {
		return nil, err
	}
	return o.flatten(make([]Reason, 0, min(o.count, reasonCount))), nil
}

// comparer is one comparison, which follows Java's checker step by step: a
// pair of types is compared once, and what was found then, with the location
// of that first time, is found again wherever the pair comes up later; a pair
// that is being compared counts as compatible.
//
// Java remembers every pair of nodes. Only pairs with a named type can come up
// twice, since any other node has one place in its schema, so only those are
// kept here. Reasons are kept as a tree (see outcome), because the list of a
// shared type can be part of exponentially many others.
type comparer struct {
	memo  map[[2]*Type]*outcome
	steps int
	depth int
}

// location is a place in the reader's schema: a step below another place. The
// root has no parent.
type location struct {
	parent *location
	token  string
	index  int // where there is no token
}

func (l *location) at(token string) *location { return &location{parent: l, token: token} }
func (l *location) item(i int) *location      { return &location{parent: l, index: i} }

func (l *location) String() string {
	var tokens []string
	for ; l.parent != nil; l = l.parent {
		token := l.token
		if token == "" {
			token = strconv.Itoa(l.index)
		}
		tokens = append(tokens, token)
	}
	slices.Reverse(tokens)
	return "/" + strings.Join(tokens, "/")
}

// outcome is what was found for a pair: reasons and outcomes of parts, in
// order. count is the number of reasons in all, cut at reasonCount.
type outcome struct {
	parts []part
	count int
}

type part struct {
	reason *found
	inner  *outcome
}

// found is a reason whose location is not written out yet.
type found struct {
	Reason
	at *location
}

var fine = &outcome{}

// add appends the outcome of a part to one that is being made.
func (o *outcome) add(inner *outcome) {
	if inner.count == 0 {
		return
	}
	o.parts = append(o.parts, part{inner: inner})
	o.count = min(o.count+inner.count, reasonCount)
}

// done returns what add has made, with no level to spare.
func (o *outcome) done() *outcome {
	switch len(o.parts) {
	case 0:
		return fine
	case 1:
		return o.parts[0].inner
	}
	return o
}

func both(a, b *outcome) *outcome {
	var all outcome
	all.add(a)
	all.add(b)
	return all.done()
}

func (o *outcome) flatten(all []Reason) []Reason {
	for _, p := range o.parts {
		if len(all) == reasonCount {
			return all
		}
		if p.inner != nil {
			all = p.inner.flatten(all)
			continue
		}
		r := p.reason.Reason
		r.Location = p.reason.at.String()
		all = append(all, r)
	}
	return all
}

func wrong(kind ReasonType, at *location, r, w *Type, format string, args ...any) *outcome {
	return &outcome{count: 1, parts: []part{{reason: &found{at: at, Reason: Reason{
		Type: kind, Message: fmt.Sprintf(format, args...), Reader: r, Writer: w}}}}}
}

// root compares a pair as if it were two whole schemas.
func (c *comparer) root(r, w *Type) (*outcome, error) { return c.pair(r, w, &location{}) }

var errPairs = fmt.Errorf("%w: comparing the schemas takes more than %d steps or %d levels",
	ErrTooComplex, pairSteps, pairDepth)

func (c *comparer) pair(r, w *Type, at *location) (*outcome, error) {
	c.steps--
	c.depth++
	defer func() { c.depth-- }()
	if c.steps <= 0 || c.depth > pairDepth {
		return nil, errPairs
	}
	if !r.kind.named() && !w.kind.named() {
		return c.compare(r, w, at)
	}
	key := [2]*Type{r, w}
	if known, ok := c.memo[key]; ok {
		return known, nil
	}
	c.steps -= 4 // what the memo costs
	c.memo[key] = fine
	o, err := c.compare(r, w, at)
	if err != nil {
		return nil, err
	}
	c.memo[key] = o
	return o, nil
}

func (c *comparer) compare(r, w *Type, at *location) (*outcome, error) {
	switch {
	case r.kind == Union && w.kind == Union:
		return c.unions(r, w, at)
	case w.kind == Union:
		return c.everyBranch(r, w, at)
	case r.kind == Union:
		return c.anyBranch(r, w, at)
	case r.kind != w.kind:
		if promotes(w.kind, r.kind) {
			return fine, nil
		}
		return wrong(TypeMismatch, at, r, w, "reader type: %s not compatible with writer type: %s",
			r.kind.upper(), w.kind.upper()), nil
	}
	switch r.kind {
	case Array:
		return c.pair(r.elem, w.elem, at.at("items"))
	case Map:
		return c.pair(r.elem, w.elem, at.at("values"))
	case Fixed:
		return both(c.names(r, w, at), c.sizes(r, w, at)), nil
	case Enum:
		return both(c.names(r, w, at), c.symbols(r, w, at)), nil
	case Record:
		o, err := c.fields(r, w, at.at("fields"))
		if err != nil {
			return nil, err
		}
		return both(c.names(r, w, at), o), nil
	}
	return fine, nil
}

// promotes tells whether a written primitive can be read as another (Avro
// specification, "Schema Resolution").
func promotes(from, to Kind) bool {
	switch from {
	case Int:
		return to == Long || to == Float || to == Double
	case Long:
		return to == Float || to == Double
	case Float:
		return to == Double
	case String:
		return to == Bytes
	case Bytes:
		return to == String
	}
	return false
}

func (c *comparer) everyBranch(r, w *Type, at *location) (*outcome, error) {
	var all outcome
	for i, b := range w.branches {
		o, err := c.pair(r, b, at.item(i))
		if err != nil {
			return nil, err
		}
		all.add(o)
	}
	return all.done(), nil
}

func (c *comparer) unions(r, w *Type, at *location) (*outcome, error) {
	var all outcome
	for i, b := range w.branches {
		o, err := c.root(r, b)
		if err != nil {
			return nil, err
		}
		if o.count > 0 {
			all.add(wrong(MissingUnionBranch, at.item(i), r, w,
				"reader union lacking writer type: %s", b.kind.upper()))
		}
	}
	return all.done(), nil
}

func (c *comparer) anyBranch(r, w *Type, at *location) (*outcome, error) {
	for _, b := range r.branches {
		o, err := c.root(b, w)
		if err != nil {
			return nil, err
		}
		if o.count == 0 {
			return fine, nil
		}
	}
	return wrong(MissingUnionBranch, at, r, w, "reader union lacking writer type: %s",
		w.kind.upper()), nil
}

// names compares the simple names; an alias of the reader stands for a full
// name of the writer.
func (c *comparer) names(r, w *Type, at *location) *outcome {
	c.steps -= len(r.aliases)
	if r.name.Simple == w.name.Simple || r.aliased(w.full) {
		return fine
	}
	return wrong(NameMismatch, at.at("name"), r, w, "expected: %s", w.full)
}

func (c *comparer) sizes(r, w *Type, at *location) *outcome {
	if r.size == w.size {
		return fine
	}
	return wrong(FixedSizeMismatch, at.at("size"), r, w, "expected: %d, found: %d", w.size, r.size)
}

func (c *comparer) symbols(r, w *Type, at *location) *outcome {
	c.steps -= len(w.symbols)
	var missing []string
	for _, s := range w.symbols {
		if r.symbol(s) < 0 {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 || r.hasEnum {
		return fine
	}
	slices.SortFunc(missing, compareUTF16)
	return wrong(MissingEnumSymbols, at.at("symbols"), r, w, "[%s]", strings.Join(missing, ", "))
}

func (c *comparer) fields(r, w *Type, at *location) (*outcome, error) {
	var all outcome
	for i := range r.fields {
		o, err := c.field(r, w, i, at)
		if err != nil {
			return nil, err
		}
		all.add(o)
	}
	return all.done(), nil
}

func (c *comparer) field(r, w *Type, i int, at *location) (*outcome, error) {
	f := &r.fields[i]
	c.steps -= 1 + len(f.aliases)
	source, err := writerField(w, f, i)
	if err != nil {
		return nil, err
	}
	switch {
	case source != nil:
		return c.pair(f.typ, source.typ, at.item(i).at("type"))
	case f.def != nil:
		return fine, nil
	case f.typ.kind == Enum && f.typ.hasEnum:
		// Java compares the enum with the whole record here.
		return c.pair(f.typ, w, at.item(i).at("type"))
	}
	return wrong(MissingDefault, at.item(i), r, w, "%s", f.name), nil
}

// writerField returns the writer's field that a field of the reader reads: the
// one of its name or of one of its aliases, or nil.
func writerField(w *Type, f *Field, position int) (*Field, error) {
	source := w.field(f.name)
	for _, alias := range f.aliases {
		other := w.field(alias)
		if other == nil {
			continue
		}
		if source != nil {
			return nil, &AmbiguousError{Field: f, Position: position, Writer: w}
		}
		source = other
	}
	return source, nil
}

// describe returns the text of an error of Compatible for a message.
func describe(err error) string {
	var ambiguous *AmbiguousError
	if errors.As(err, &ambiguous) {
		return ambiguous.Error()
	}
	return err.Error()
}
