package avro

import (
	"errors"
	"math"
)

// defaultSteps bounds the work of checking the defaults of one text: records
// whose fields have defaults can make it exponential.
const defaultSteps = 1 << 19

// defaultDepth bounds the nesting of what a default means: in a lenient schema
// a record's default may need itself.
const defaultDepth = 1_000

// checker decides whether JSON values are valid defaults, by the rules of Avro
// Java: the default of a union may be of any branch, a record's missing fields
// take their own defaults, texts stand for bytes, fixed and enum alike.
type checker struct {
	steps *int // left
	depth int
	// open are the records that are not complete yet.
	open map[*Type]bool
	// unfinished names such a record that a default needed.
	unfinished string
}

func (c *checker) fits(t *Type, v *value) bool {
	c.depth++
	defer func() { c.depth-- }()
	if *c.steps--; *c.steps <= 0 || c.depth > defaultDepth || v == nil {
		return false
	}
	switch t.kind {
	case String, Bytes, Enum, Fixed:
		return v.kind == isText
	case Int:
		return v.kind == isInt
	case Long:
		return v.kind == isInt || v.kind == isLong
	case Float, Double:
		return v.isNumber()
	case Boolean:
		return v.kind == isTrue || v.kind == isFalse
	case Null:
		return v.kind == isNull
	case Array:
		return v.kind == isArray && c.allItems(t.elem, v)
	case Map:
		return v.kind == isObject && c.allMembers(t.elem, v)
	case Union:
		for _, b := range t.branches {
			if c.fits(b, v) {
				return true
			}
		}
		return false
	}
	return v.kind == isObject && c.fitsRecord(t, v)
}

func (c *checker) allItems(elem *Type, v *value) bool {
	for i := range v.items {
		if !c.fits(elem, &v.items[i]) {
			return false
		}
	}
	return true
}

func (c *checker) allMembers(elem *Type, v *value) bool {
	for i := range v.members {
		if !c.fits(elem, &v.members[i].value) {
			return false
		}
	}
	return true
}

func (c *checker) fitsRecord(t *Type, v *value) bool {
	if c.open[t] {
		c.unfinished = t.full
		return false
	}
	for i := range t.fields {
		f := &t.fields[i]
		given := v.get(f.name)
		if given == nil {
			given = f.def
		}
		if !c.fits(f.typ, given) || c.unfinished != "" {
			return false
		}
	}
	return true
}

// secondLook checks every default again, now with the types that forward
// references mean. Java does so while it copies the types, depth first: a
// default that needs a record whose copy is not complete is refused.
func (p *parser) secondLook(root *Type) error {
	l := &look{p: p, open: map[*Type]bool{}, done: map[*Type]bool{}}
	for _, t := range p.fresh {
		if err := l.visit(t); err != nil {
			return err
		}
	}
	return l.visit(root)
}

type look struct {
	p    *parser
	open map[*Type]bool
	done map[*Type]bool
}

func (l *look) visit(t *Type) error {
	if t.done || l.done[t] || l.open[t] {
		return nil
	}
	if t.elem != nil {
		return l.visit(t.elem)
	}
	for _, b := range t.branches {
		if err := l.visit(b); err != nil {
			return err
		}
	}
	if t.kind != Record {
		return nil
	}
	l.open[t] = true
	for i := range t.fields {
		if err := l.visit(t.fields[i].typ); err != nil {
			return err
		}
	}
	for i := range t.fields {
		f := &t.fields[i]
		if f.def == nil {
			continue
		}
		c := checker{steps: &l.p.steps, open: l.open}
		if !c.fits(f.typ, f.def) || c.unfinished != "" {
			err, _ := errors.AsType[*SchemaError](l.p.badDefault(f, c))
			err.Problem = "in the record " + t.full + ": " + err.Problem
			return err
		}
	}
	l.open[t] = false
	l.done[t] = true
	return nil
}

// pick returns the branch of a union that a default is of: the first that it
// fits, or the first.
func pick(union *Type, v *value) *Type {
	steps := defaultSteps
	c := checker{steps: &steps}
	for _, b := range union.branches {
		if c.fits(b, v) {
			return b
		}
	}
	if len(union.branches) == 0 {
		return union
	}
	return union.branches[0]
}

// latin returns a default's text as bytes: one per character, those beyond
// U+00FF as '?', as Java's ISO_8859_1 does.
func latin(text string) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > math.MaxUint8 {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}
