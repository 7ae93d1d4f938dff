package avro

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// RecordValue is a value of a record.
type RecordValue struct {
	// Type is the reader's record.
	Type *Type
	// Values are the values of its fields, in order.
	Values []any
}

// Decode reads binary data that was written with one schema as another sees it
// (Avro specification, "Schema Resolution"). A value is nil, bool, int32,
// int64, float32, float64, string (an enum's symbol too), []byte (fixed too),
// []any, map[string]any or *RecordValue; it shares no memory with data. The
// data is validated first, and a quarter of ValueCount may be made of it; an
// error is a *DataError.
func Decode(writer, reader *Schema, data []byte, l DataLimits) (any, error) {
	if err := Validate(writer, data, l); err != nil {
		return nil, err
	}
	r := &resolver{
		source: source{data: data}, values: l.filled().ValueCount / 4,
		plans: make(map[[2]*Type]*plan), picked: make(map[[2]*Type]*Type),
	}
	return r.read(writer.root, reader.root)
}

// resolver reads valid data; its recursion is bounded by Validate's depth.
type resolver struct {
	source
	values int // left
	depth  int // of defaults
	// tagged makes the value of a union a branched.
	tagged bool
	plans  map[[2]*Type]*plan
	picked map[[2]*Type]*Type // branches by written type and union
}

// plan says how a reader's record is read from a writer's.
type plan struct {
	// targets are the reader's positions of the writer's fields, -1 to skip.
	targets []int
	// absent are the reader's fields that take their defaults.
	absent []int
}

func (r *resolver) mismatch(w, t *Type, also string) error {
	return r.fail("Found %s, expecting %s%s", w.label(), t.label(), also)
}

// label names a type as Java's messages do.
func (t *Type) label() string {
	if t.kind != Union {
		return t.full
	}
	names := make([]string, len(t.branches))
	for i, b := range t.branches {
		names[i] = b.full
	}
	return "[" + strings.Join(names, ", ") + "]"
}

func (r *resolver) read(w, t *Type) (any, error) {
	if r.values--; r.values < 0 {
		return nil, r.fail("too many values")
	}
	switch {
	case w.kind == Union:
		i, err := r.index(len(w.branches), "branch")
		if err != nil {
			return nil, err
		}
		return r.read(w.branches[i], t)
	case t.kind == Union:
		key := [2]*Type{w, t}
		b, known := r.picked[key]
		if !known {
			b = branch(w, t)
			r.picked[key] = b
		}
		if b == nil {
			return nil, r.mismatch(w, t, "")
		}
		v, err := r.read(w, b)
		return r.tag(b, v), err
	case w.kind != t.kind && !promotes(w.kind, t.kind):
		return nil, r.mismatch(w, t, "")
	}
	switch w.kind {
	case Record:
		return r.record(w, t)
	case Array:
		return r.array(w, t)
	case Map:
		return r.mapped(w, t)
	case Enum:
		return r.symbol(w, t)
	case Fixed:
		if !sameName(w, t) || w.size != t.size {
			return nil, r.mismatch(w, t, "")
		}
		b, err := r.bytes(int64(w.size))
		return append([]byte{}, b...), err
	}
	return r.primitive(w.kind, t.kind)
}

func (r *resolver) primitive(from, to Kind) (any, error) {
	switch from {
	case Null:
		return nil, nil
	case Boolean:
		return r.boolean()
	case Int:
		n, err := r.int()
		return widen(int64(n), to), err
	case Long:
		n, err := r.long()
		return widen(n, to), err
	case Float:
		b, err := r.bytes(4)
		if err != nil {
			return nil, err
		}
		f := math.Float32frombits(binary.LittleEndian.Uint32(b))
		if to == Double {
			return float64(f), nil
		}
		return f, nil
	case Double:
		b, err := r.bytes(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
	}
	b, err := r.text()
	if to == String {
		return string(b), err
	}
	return append([]byte{}, b...), err
}

func widen(n int64, to Kind) any {
	switch to {
	case Int:
		return int32(n)
	case Float:
		return float32(n)
	case Double:
		return float64(n)
	}
	return n
}

func (r *resolver) symbol(w, t *Type) (any, error) {
	if !sameName(w, t) {
		return nil, r.mismatch(w, t, "")
	}
	i, err := r.index(len(w.symbols), "symbol")
	if err != nil {
		return nil, err
	}
	switch symbol := w.symbols[i]; {
	case t.symbol(symbol) >= 0:
		return symbol, nil
	case t.hasEnum:
		return t.enumDef, nil
	default:
		return nil, r.fail("No match for %s", symbol)
	}
}

// sameName is how a writer's enum or fixed is known again by a reader.
func sameName(w, t *Type) bool { return w.name.Simple == t.name.Simple || t.aliased(w.full) }

func (r *resolver) array(w, t *Type) (any, error) {
	all := []any{}
	for {
		count, _, err := r.block(w.elem.width)
		if err != nil || count == 0 {
			return all, err
		}
		for range count {
			v, err := r.read(w.elem, t.elem)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
	}
}

func (r *resolver) mapped(w, t *Type) (any, error) {
	all := map[string]any{}
	for {
		count, _, err := r.block(w.elem.width + 1)
		if err != nil || count == 0 {
			return all, err
		}
		for range count {
			key, err := r.text()
			if err != nil {
				return nil, err
			}
			if all[string(key)], err = r.read(w.elem, t.elem); err != nil {
				return nil, err
			}
		}
	}
}

func (r *resolver) record(w, t *Type) (any, error) {
	p, err := r.plan(w, t)
	if err != nil {
		return nil, err
	}
	v := &RecordValue{Type: t, Values: make([]any, len(t.fields))}
	for i := range w.fields {
		from := w.fields[i].typ
		if p.targets[i] < 0 {
			if _, err := r.read(from, from); err != nil {
				return nil, err
			}
			continue
		}
		to := p.targets[i]
		if v.Values[to], err = r.read(from, t.fields[to].typ); err != nil {
			return nil, err
		}
	}
	for _, i := range p.absent {
		if v.Values[i], err = r.fromDefault(t.fields[i].typ, t.fields[i].def); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (r *resolver) plan(w, t *Type) (*plan, error) {
	key := [2]*Type{w, t}
	if p := r.plans[key]; p != nil {
		return p, nil
	}
	p := &plan{targets: make([]int, len(w.fields))}
	for i := range p.targets {
		p.targets[i] = -1
	}
	for i := range t.fields {
		f := &t.fields[i]
		from, err := writerField(w, f, i)
		switch {
		case err != nil:
			return nil, r.fail("%v", err)
		case from != nil:
			p.targets[w.byName[from.name]] = i
		case f.def != nil:
			p.absent = append(p.absent, i)
		default:
			return nil, r.mismatch(w, t, ", missing required field "+f.name)
		}
	}
	r.plans[key] = p
	return p, nil
}

// branch picks the branch of a reader's union for a written type, as Java
// does: the same type and name, then a record that fits, then a promotion.
func branch(w, union *Type) *Type {
	var fits *Type
	for _, b := range union.branches {
		switch {
		case b.kind != w.kind:
		case !b.kind.named(), b.full == w.full, b.aliased(w.full):
			return b
		case b.kind == Record && structural(w, b):
			if fits == nil || b.name.Simple == w.name.Simple {
				fits = b
			}
		}
	}
	if fits != nil {
		return fits
	}
	for _, b := range union.branches {
		if promotes(w.kind, b.kind) {
			return b
		}
	}
	return nil
}

// structural tells whether a record can be read as another but for the name.
func structural(w, t *Type) bool {
	c := &comparer{memo: make(map[[2]*Type]*outcome), steps: pairSteps}
	o, err := c.fields(t, w, rootPlace)
	return err == nil && o.count == 0
}

// fromDefault makes the value of a default.
func (r *resolver) fromDefault(t *Type, v *value) (any, error) {
	r.depth++
	defer func() { r.depth-- }()
	r.values -= 1 + len(v.text)/16
	if r.values < 0 || r.depth > defaultDepth {
		return nil, r.fail("a default means too many values")
	}
	if t.kind == Union {
		b := pick(t, v)
		if b.kind == Union { // a union of nothing
			return nil, r.fail("the default %s does not fit %s", quoted(v), clip(t.full))
		}
		all, err := r.fromDefault(b, v)
		return r.tag(b, all), err
	}
	steps := defaultSteps
	c := checker{steps: &steps}
	if !t.kind.holds() && !c.fits(t, v) {
		return nil, r.fail("the default %s does not fit %s", quoted(v), clip(t.full))
	}
	switch t.kind {
	case Boolean:
		return v.kind == isTrue, nil
	case Int, Long:
		return widen(v.integer(), t.kind), nil
	case Float:
		return float32(v.number()), nil
	case Double:
		return v.number(), nil
	case String, Enum:
		return v.text, nil
	case Bytes, Fixed:
		return latin(v.text), nil
	case Array, Map, Record:
		return r.defaultParts(t, v)
	}
	return nil, nil
}

// holds tells whether values of the kind are made of other values.
func (k Kind) holds() bool { return k == Array || k == Map || k == Record }

func (r *resolver) defaultParts(t *Type, v *value) (any, error) {
	var err error
	switch {
	case t.kind == Array && v.kind == isArray:
		all := make([]any, len(v.items))
		for i := range v.items {
			if all[i], err = r.fromDefault(t.elem, &v.items[i]); err != nil {
				return nil, err
			}
		}
		return all, nil
	case t.kind == Map && v.kind == isObject:
		all := make(map[string]any, len(v.members))
		for i := range v.members {
			m := &v.members[i]
			if all[m.key], err = r.fromDefault(t.elem, &m.value); err != nil {
				return nil, err
			}
		}
		return all, nil
	case t.kind == Record && v.kind == isObject:
		all := &RecordValue{Type: t, Values: make([]any, len(t.fields))}
		for i := range t.fields {
			f := &t.fields[i]
			given := v.get(f.name)
			if given == nil {
				given = f.def
			}
			if given == nil {
				return nil, r.fail("the default %s has no %s", quoted(v), fmt.Sprintf("%q", f.name))
			}
			if all.Values[i], err = r.fromDefault(f.typ, given); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, r.fail("the default %s does not fit %s", quoted(v), clip(t.full))
}
