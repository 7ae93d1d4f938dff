package avro

import (
	"errors"
	"fmt"
)

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
	return o.reasons(), nil
}

// comparer is one comparison, which follows Java's checker step by step: a
// pair of types is compared once, and what was found then, with the location
// of that first time, is found again wherever the pair comes up later; a pair
// that is being compared counts as compatible.
//
// Java remembers every pair of nodes. Only pairs with a named type can come up
// twice, since any other node has one place in its schema, so only those are
// kept here.
type comparer struct {
	memo  map[[2]*Type]*outcome
	steps int
	depth int
}

// root compares a pair as if it were two whole schemas.
func (c *comparer) root(r, w *Type) (*outcome, error) { return c.pair(r, w, rootPlace) }

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
	c.steps -= 11 // what the memo costs
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
		return wrong(TypeMismatch, at, r, w, -1), nil
	}
	switch r.kind {
	case Array:
		return c.pair(r.elem, w.elem, at.to(toItems, 0))
	case Map:
		return c.pair(r.elem, w.elem, at.to(toValues, 0))
	case Fixed:
		return both(c.names(r, w, at), c.sizes(r, w, at)), nil
	case Enum:
		return both(c.names(r, w, at), c.symbols(r, w, at)), nil
	case Record:
		o, err := c.fields(r, w, at)
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
	all := fine
	for i, b := range w.branches {
		o, err := c.pair(r, b, at.to(toBranch, i))
		if err != nil {
			return nil, err
		}
		all = both(all, o)
	}
	return all, nil
}

func (c *comparer) unions(r, w *Type, at *location) (*outcome, error) {
	all := fine
	for i, b := range w.branches {
		o, err := c.root(r, b)
		if err != nil {
			return nil, err
		}
		if o.count > 0 {
			all = both(all, wrong(MissingUnionBranch, at, r, w, i))
		}
	}
	return all, nil
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
	return wrong(MissingUnionBranch, at, r, w, -1), nil
}

// names compares the simple names; an alias of the reader stands for a full
// name of the writer.
func (c *comparer) names(r, w *Type, at *location) *outcome {
	c.steps -= len(r.aliases)
	if r.name.Simple == w.name.Simple || r.aliased(w.full) {
		return fine
	}
	return wrong(NameMismatch, at, r, w, -1)
}

func (c *comparer) sizes(r, w *Type, at *location) *outcome {
	if r.size == w.size {
		return fine
	}
	return wrong(FixedSizeMismatch, at, r, w, -1)
}

func (c *comparer) symbols(r, w *Type, at *location) *outcome {
	if r.hasEnum {
		return fine
	}
	for _, s := range w.symbols {
		c.steps--
		if r.symbol(s) < 0 {
			return wrong(MissingEnumSymbols, at, r, w, -1)
		}
	}
	return fine
}

func (c *comparer) fields(r, w *Type, at *location) (*outcome, error) {
	all := fine
	for i := range r.fields {
		o, err := c.field(r, w, i, at)
		if err != nil {
			return nil, err
		}
		all = both(all, o)
	}
	return all, nil
}

func (c *comparer) field(r, w *Type, i int, at *location) (*outcome, error) {
	f := &r.fields[i]
	c.steps -= 1 + len(f.aliases)
	source, err := writerField(w, f, i)
	if err != nil {
		return nil, err
	}
	switch {
	case source != nil && f.typ.kind >= String && source.typ.kind >= String &&
		(f.typ.kind == source.typ.kind || promotes(source.typ.kind, f.typ.kind)):
		return fine, nil // most fields
	case source != nil:
		return c.pair(f.typ, source.typ, at.to(toField, i))
	case f.def != nil:
		return fine, nil
	case f.typ.kind == Enum && f.typ.hasEnum:
		// Java compares the enum with the whole record here.
		return c.pair(f.typ, w, at.to(toField, i))
	}
	return wrong(MissingDefault, at, r, w, i), nil
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
	if ambiguous, ok := errors.AsType[*AmbiguousError](err); ok {
		return ambiguous.Error()
	}
	return err.Error()
}
