package avro

import "slices"

// finish ends a text: it puts types in the place of forward references, checks
// defaults again now that the types are known, bounds the nesting, and works
// out the least width of values.
func (p *parser) finish(root **Type, known []string) error {
	if (*root).waits {
		return p.undefined(*root)
	}
	for _, t := range p.holders {
		if err := p.resolve(t); err != nil {
			return err
		}
	}
	if (*root).kind.named() {
		*root = p.table[(*root).full]
	}
	p.path = nil
	if p.mode == Strict && len(p.waiting) > 0 {
		if err := p.secondLook(*root); err != nil {
			return err
		}
	}
	w := widths{}
	for _, t := range p.holders {
		w.of(t)
	}
	for _, t := range p.holders {
		if t.kind == Record {
			t.done = true
		}
	}
	if p.reference {
		return nil // whoever names its types prints them as part of its own text
	}
	n := nesting{limit: p.limits.NestingCount, seen: make(map[string]bool)}
	for _, name := range known {
		n.seen[name] = true
	}
	if !n.within(*root, 1) {
		return p.over("types are nested more than %d deep, once forward references "+
			"are replaced by what they mean", p.limits.NestingCount)
	}
	return nil
}

func (p *parser) undefined(t *Type) error {
	return &SchemaError{
		Pointer: p.waiting[t],
		Problem: "the type " + clip(t.awaits) + " is not defined",
	}
}

// resolve replaces the forward references that t holds.
func (p *parser) resolve(t *Type) error {
	if err := p.replace(&t.elem); err != nil {
		return err
	}
	for i := range t.fields {
		if err := p.replace(&t.fields[i].typ); err != nil {
			return err
		}
	}
	replaced := false
	place := ""
	for i, b := range t.branches {
		if b.waits {
			replaced, place = true, p.waiting[b]
		}
		if err := p.replace(&t.branches[i]); err != nil {
			return err
		}
	}
	if !replaced {
		return nil
	}
	if twice := repeated(t.branches); twice != "" {
		return &SchemaError{Pointer: place, Problem: "the union has the branch " + twice + " twice"}
	}
	return nil
}

func (p *parser) replace(place **Type) error {
	t := *place
	if t == nil || !t.waits {
		return nil
	}
	*place = p.table[t.awaits]
	if *place == nil {
		return p.undefined(t)
	}
	return nil
}

// nesting measures how deep the canonical text nests types: a named type where
// it is met first, and its name from then on.
type nesting struct {
	limit int
	seen  map[string]bool
}

func (n *nesting) within(t *Type, depth int) bool {
	if depth > n.limit {
		return false
	}
	if t.kind.named() {
		if n.seen[t.full] {
			return true
		}
		n.seen[t.full] = true
	}
	if t.elem != nil && !n.within(t.elem, depth+1) {
		return false
	}
	for _, b := range t.branches {
		if !n.within(b, depth+1) {
			return false
		}
	}
	for i := range t.fields {
		if !n.within(t.fields[i].typ, depth+1) {
			return false
		}
	}
	return true
}

// widths works out the least widths of records: true while one is in work.
type widths map[*Type]bool

// most is as wide as a width gets.
const mostWidth = 1 << 40

func (w widths) of(t *Type) {
	if t.kind != Record || t.done {
		return
	}
	if _, met := w[t]; met {
		return
	}
	w[t] = true
	sum := int64(0)
	for i := range t.fields {
		inner := t.fields[i].typ
		w.of(inner)
		if w[inner] || inner.endless {
			t.endless = true
			sum = mostWidth
		}
		sum = min(sum+inner.width, mostWidth)
	}
	t.width = sum
	w[t] = false
}

// Endless returns the full name of a record that holds itself in every value,
// and false if the schema has none. No value of such a record can be written,
// though Avro Java takes the schema.
func (s *Schema) Endless() (string, bool) {
	found := ""
	s.each(func(t *Type) {
		if t.endless && found == "" {
			found = t.full
		}
	})
	return found, found != ""
}

// each calls f once for every type that the schema reaches, records before
// what is in them.
func (s *Schema) each(f func(*Type)) {
	seen := map[*Type]bool{}
	rest := []*Type{s.root}
	for len(rest) > 0 {
		t := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		if seen[t] {
			continue
		}
		seen[t] = true
		f(t)
		if t.elem != nil {
			rest = append(rest, t.elem)
		}
		for _, v := range slices.Backward(t.branches) {
			rest = append(rest, v)
		}
		for _, v := range slices.Backward(t.fields) {
			rest = append(rest, v.typ)
		}
	}
}

// sameType compares two definitions as Java's Schema.equals does: names,
// fields with their defaults, orders and properties, symbols and sizes; not
// docs, aliases or an enum's default.
func sameType(a, b *Type, seen map[[2]*Type]bool) bool {
	if a == b {
		return true
	}
	if a.kind != b.kind || a.waits || b.waits || a.full != b.full ||
		a.size != b.size || !sameMembers(a.props, b.props) {
		return false
	}
	switch a.kind {
	case Array, Map:
		return sameType(a.elem, b.elem, seen)
	case Union:
		if len(a.branches) != len(b.branches) {
			return false
		}
		for i := range a.branches {
			if !sameType(a.branches[i], b.branches[i], seen) {
				return false
			}
		}
	case Enum:
		if len(a.symbols) != len(b.symbols) {
			return false
		}
		for i := range a.symbols {
			if a.symbols[i] != b.symbols[i] {
				return false
			}
		}
	case Record:
		pair := [2]*Type{a, b}
		if seen[pair] {
			return true
		}
		seen[pair] = true
		return sameFields(a.fields, b.fields, seen)
	}
	return true
}

func sameFields(a, b []Field, seen map[[2]*Type]bool) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		f, g := &a[i], &b[i]
		if f.name != g.name || f.order != g.order || (f.def == nil) != (g.def == nil) ||
			f.def != nil && !f.def.equal(g.def) || !sameMembers(f.props, g.props) ||
			!sameType(f.typ, g.typ, seen) {
			return false
		}
	}
	return true
}
