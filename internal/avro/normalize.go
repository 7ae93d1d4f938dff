package avro

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Normalize returns the schema with everything that does not count in one
// form: full names, sorted properties and aliases, no references to a parent's
// namespace. Docs and defaults stay. Its canonical text is what the registry
// stores when it is asked to normalize.
func (s *Schema) Normalize() (*Schema, error) {
	text, err := s.Normalized()
	if err != nil {
		return nil, err
	}
	limits := s.limits
	limits.TextBytes = max(limits.TextBytes, len(text))
	n, err := Parse(text, Options{Mode: s.mode, References: s.outside, Limits: limits})
	if err != nil {
		return nil, fmt.Errorf("parsing the normalized schema: %w", err)
	}
	return n, nil
}

// Normalized returns the text that the Confluent registry's normalizer makes:
// it writes a valid logical type twice and drops a default that does not fit
// its field's type. Normalize reads it back.
func (s *Schema) Normalized() (string, error) {
	n := normalizer{printer{seen: make(map[string]bool)}, nil}
	for _, name := range s.known {
		n.seen[name] = true
	}
	n.typ(s.root)
	if n.err != nil {
		return "", n.err
	}
	return string(n.b), nil
}

type normalizer struct {
	printer
	err error // the first
}

func (n *normalizer) typ(t *Type) {
	switch t.kind {
	case Union:
		n.raw("[")
		for i, b := range t.branches {
			if i > 0 {
				n.raw(",")
			}
			n.typ(b)
		}
		n.raw("]")
	case Array, Map:
		key := `,"items":`
		if t.kind == Map {
			key = `,"values":`
		}
		n.raw(`{"type":"` + t.kind.String() + `"` + key)
		n.typ(t.elem)
		n.props(t.props)
		n.raw("}")
	case Record, Enum, Fixed:
		n.named(t)
	default:
		if len(t.props) == 0 {
			n.raw(`"` + t.kind.String() + `"`)
			return
		}
		n.raw(`{"type":"` + t.kind.String() + `"`)
		n.logical(t.Logical())
		n.props(t.props)
		n.raw("}")
	}
}

func (n *normalizer) named(t *Type) {
	if n.seen[t.full] {
		n.text(t.full)
		return
	}
	n.seen[t.full] = true
	n.raw(`{"name":`)
	n.text(t.full)
	n.raw(`,"type":"` + t.kind.String() + `"`)
	switch t.kind {
	case Enum:
		n.texts("symbols", t.symbols)
	case Fixed:
		n.raw(`,"size":` + strconv.Itoa(t.size))
		n.logical(t.Logical())
	case Record:
		n.raw(`,"fields":[`)
		for i := range t.fields {
			if i > 0 {
				n.raw(",")
			}
			n.field(&t.fields[i])
		}
		n.raw("]")
	}
	if t.doc != "" {
		n.raw(`,"doc":`)
		n.text(t.doc)
	}
	if len(t.aliases) > 0 {
		full := make([]string, len(t.aliases))
		for i, a := range t.aliases {
			full[i] = a.Full()
		}
		n.sorted(full)
	}
	if t.hasEnum {
		n.raw(`,"default":`)
		n.text(t.enumDef)
	}
	n.props(t.props)
	n.raw("}")
}

func (n *normalizer) field(f *Field) {
	n.raw(`{"name":`)
	n.text(f.name)
	n.raw(`,"type":`)
	n.typ(f.typ)
	n.raw(`,"order":"` + strings.ToUpper(orderNames[f.order]) + `"`)
	if f.hasDoc {
		n.raw(`,"doc":`)
		n.text(f.doc)
	}
	if len(f.aliases) > 0 {
		n.sorted(slices.Clone(f.aliases))
	}
	if f.def != nil {
		if def := n.object(f.def, f.typ); def != nil {
			n.raw(`,"default":`)
			n.b = def.append(n.b)
		}
	}
	n.props(f.props)
	n.raw("}")
}

func (n *normalizer) sorted(aliases []string) {
	slices.SortFunc(aliases, compareUTF16)
	n.texts("aliases", slices.Compact(aliases))
}

func (n *normalizer) logical(l Logical) {
	if l.Name == "" {
		return
	}
	n.raw(`,"logicalType":"` + l.Name + `"`)
	if l.Name == "decimal" {
		n.raw(`,"precision":` + strconv.Itoa(l.Precision))
		if l.Scale != 0 {
			n.raw(`,"scale":` + strconv.Itoa(l.Scale))
		}
	}
}

func (n *normalizer) props(props []member) {
	sorted := slices.Clone(props)
	slices.SortFunc(sorted, func(a, b member) int { return compareUTF16(a.key, b.key) })
	for i := range sorted {
		sorted[i].value = sorted[i].value.inOrder()
	}
	n.printer.props(sorted)
}

// inOrder returns the value with the members of objects sorted by key.
func (v *value) inOrder() value {
	w := *v
	w.items = slices.Clone(v.items)
	for i := range w.items {
		w.items[i] = w.items[i].inOrder()
	}
	w.members = slices.Clone(v.members)
	slices.SortFunc(w.members, func(a, b member) int { return compareUTF16(a.key, b.key) })
	for i := range w.members {
		w.members[i].value = w.members[i].value.inOrder()
	}
	return w
}

// object returns a default as Java's Field.defaultVal gives it, in the width
// of its type; nil where it does not fit, and then it is dropped. A part that
// does not fit cannot be dropped: that is an error. t is nil where no type
// says what to expect.
func (n *normalizer) object(v *value, t *Type) *value {
	if t != nil && t.kind == Union {
		t = pick(t, v)
	}
	kind := Kind(0)
	if t != nil {
		kind = t.kind
	}
	switch {
	case v.kind == isNull, v.kind == isTrue, v.kind == isFalse:
		return v
	case v.kind == isInt, v.kind == isLong, v.kind == isDouble:
		return numberAs(v, kind)
	case v.kind == isText:
		switch kind {
		case 0, String, Enum:
			return v
		case Bytes, Fixed:
			return &value{kind: isText, text: unlatin(latin(v.text))}
		}
	case v.kind == isArray:
		return n.list(v, t)
	case v.kind == isObject:
		return n.members(v, t)
	}
	return nil
}

func numberAs(v *value, kind Kind) *value {
	switch {
	case kind == 0, kind == Int && v.kind != isDouble, kind == Long && v.kind != isDouble:
		return v
	case kind == Double:
		d := doubleValue(isDouble, v.number())
		return &d
	case kind == Float:
		f := doubleValue(isFloat, float64(float32(v.number())))
		return &f
	}
	return nil
}

func unlatin(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func (n *normalizer) list(v *value, t *Type) *value {
	w := &value{kind: isArray, items: make([]value, len(v.items))}
	for i := range v.items {
		var elem *Type
		if t != nil {
			if t.kind != Array {
				return n.impossible(v, t)
			}
			elem = t.elem
		}
		item := n.object(&v.items[i], elem)
		if item == nil {
			return n.impossible(v, t)
		}
		w.items[i] = *item
	}
	return w
}

func (n *normalizer) members(v *value, t *Type) *value {
	w := &value{kind: isObject, members: slices.Clone(v.members)}
	for i := range w.members {
		m := &w.members[i]
		var inner *Type
		switch {
		case t == nil:
		case t.kind == Map:
			inner = t.elem
		case t.kind == Record:
			f := t.field(m.key)
			if f == nil {
				return n.impossible(v, t)
			}
			inner = f.typ
		}
		item := n.object(&m.value, inner)
		if item == nil {
			return n.impossible(v, t)
		}
		m.value = *item
	}
	slices.SortFunc(w.members, func(a, b member) int { return compareUTF16(a.key, b.key) })
	return w
}

func (n *normalizer) impossible(v *value, t *Type) *value {
	if n.err == nil {
		n.err = &SchemaError{Problem: "cannot be normalized: a part of the default " +
			quoted(v) + " does not fit " + clip(t.String())}
	}
	return nil
}
