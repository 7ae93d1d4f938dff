package avro

import "strings"

func (p *parser) record(v *value, space string, isError bool) (*Type, error) {
	t, err := p.named(v, Record, space)
	if err != nil {
		return nil, err
	}
	t.isError = isError
	fields := v.get("fields")
	if fields == nil || fields.kind != isArray {
		return nil, p.fail(`the record %s has no "fields" that are an array`, t.full)
	}
	if p.fields += len(fields.items); p.fields > p.limits.FieldCount {
		return nil, p.over("more than %d record fields", p.limits.FieldCount)
	}
	t.fields = make([]Field, len(fields.items))
	t.byName = make(map[string]int, len(fields.items))
	p.enter("fields")
	for i := range fields.items {
		p.enterItem(i)
		f := &t.fields[i]
		if err := p.field(&fields.items[i], f, t.name.Space); err != nil {
			return nil, err
		}
		if first, twice := t.byName[f.name]; twice {
			return nil, p.fail("the record %s has the field %q at positions %d and %d",
				t.full, f.name, first, i)
		}
		t.byName[f.name] = i
		p.leave()
	}
	p.leave()
	p.holders = append(p.holders, t)
	t.props = propsOf(v, typeReserved)
	return t, p.define(t, v)
}

func (p *parser) field(v *value, f *Field, space string) error {
	if v.kind != isObject {
		return p.fail("a field is an object, not %s", quoted(v))
	}
	var ok bool
	if f.name, ok = v.textOf("name"); !ok {
		return p.fail(`no "name" that is a text in the field %s`, quoted(v))
	}
	f.doc, f.hasDoc = v.textOf("doc")
	typ := v.get("type")
	if typ == nil {
		return p.fail(`the field %q has no "type"`, f.name)
	}
	p.enter("type")
	var err error
	if f.typ, err = p.schema(typ, space); err != nil {
		return err
	}
	p.leave()
	if err := p.order(v, f); err != nil {
		return err
	}
	if err := p.check(f.name, "field name"); err != nil {
		return err
	}
	if err := p.fieldDefault(v, f); err != nil {
		return err
	}
	f.props = propsOf(v, fieldReserved)
	f.aliases, err = p.aliases(v)
	return err
}

func (p *parser) order(v *value, f *Field) error {
	given := v.get("order")
	if given == nil {
		return nil
	}
	for o, name := range orderNames {
		if given.kind == isText && strings.EqualFold(given.text, name) {
			f.order = order(o)
			return nil
		}
	}
	p.enter("order")
	return p.fail(`an order is "ascending", "descending" or "ignore", not %s`, quoted(given))
}

func (p *parser) fieldDefault(v *value, f *Field) error {
	given := v.get("default")
	if given == nil {
		return nil
	}
	p.enter("default")
	if given.kind == isText && (f.typ.kind == Float || f.typ.kind == Double) {
		number, ok := javaDouble(given.text)
		if !ok {
			return p.fail("%s is no number", quoted(given))
		}
		read := doubleValue(isDouble, number)
		given = &read
	}
	f.def = given
	if p.mode == Strict {
		c := checker{steps: &p.steps}
		if !c.fits(f.typ, given) {
			return p.badDefault(f, c)
		}
	}
	p.leave()
	return nil
}

func (p *parser) badDefault(f *Field, c checker) error {
	switch {
	case p.steps <= 0:
		return p.over("the default of the field %q takes too long to check", f.name)
	case c.unfinished != "":
		return p.fail("the default of the field %q needs %s, which is not complete here",
			f.name, c.unfinished)
	}
	return p.fail("the default %s of the field %q does not fit %s", quoted(f.def), f.name,
		clip(f.typ.String()))
}

// named reads what records, enums and fixed have in common.
func (p *parser) named(v *value, kind Kind, space string) (*Type, error) {
	text, ok := v.textOf("name")
	if !ok {
		return nil, p.fail(`no "name" that is a text in %s`, quoted(v))
	}
	if given, ok := v.textOf("namespace"); ok {
		space = given
	}
	t := &Type{definition: &definition{name: newName(text, space)}, kind: kind}
	t.full = t.name.Full()
	if err := p.check(t.name.Simple, "name"); err != nil {
		return nil, err
	}
	if isPrimitive(t.full) {
		return nil, p.fail("%q is the name of a primitive type", t.full)
	}
	t.doc, t.hasDoc = v.textOf("doc")
	return t, nil
}

// define ends a named type: its aliases, and its place in the table. A type
// may be defined again by an equal definition.
func (p *parser) define(t *Type, v *value) error {
	texts, err := p.aliases(v)
	if err != nil {
		return err
	}
	var seen map[Name]bool
	if len(texts) > 0 {
		seen = make(map[Name]bool, len(texts))
	}
	for _, text := range texts {
		alias := newName(text, t.name.Space)
		if err := p.check(alias.Simple, "alias"); err != nil {
			return err
		}
		if !seen[alias] {
			t.aliases = append(t.aliases, alias)
		}
		seen[alias] = true
	}
	for part := range strings.SplitSeq(t.name.Space, ".") {
		if t.name.Space == "" {
			break
		}
		if err := p.check(part, "part of the namespace"); err != nil {
			return err
		}
	}
	known := p.table[t.full]
	if known == nil {
		p.table[t.full] = t
		p.fresh = append(p.fresh, t)
		return nil
	}
	if !sameType(known, t, map[[2]*Type]bool{}) {
		return p.fail("%s is defined twice, and differently", t.full)
	}
	return nil
}

func (p *parser) aliases(v *value) ([]string, error) {
	given := v.get("aliases")
	if given == nil {
		return nil, nil
	}
	p.enter("aliases")
	if given.kind != isArray {
		return nil, p.fail("aliases are an array, not %s", quoted(given))
	}
	texts := make([]string, 0, len(given.items))
	seen := make(map[string]bool, len(given.items))
	for i := range given.items {
		item := &given.items[i]
		if item.kind != isText {
			p.enterItem(i)
			return nil, p.fail("an alias is a text, not %s", quoted(item))
		}
		if !seen[item.text] {
			texts = append(texts, item.text)
		}
		seen[item.text] = true
	}
	p.leave()
	return texts, nil
}

// check holds a name to Avro's rule in strict mode: a letter or underscore,
// then letters, digits and underscores, of ASCII.
func (p *parser) check(name, what string) error {
	if p.mode == Lenient {
		return nil
	}
	if name == "" {
		return p.fail("an empty %s", what)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return p.fail("the %s %q has a character other than A-Z, a-z, 0-9 and _, "+
				"or begins with a digit", what, clip(name))
		}
	}
	return nil
}

var (
	typeReserved = map[string]bool{
		"doc": true, "fields": true, "items": true, "name": true,
		"namespace": true, "size": true, "symbols": true, "values": true, "type": true,
		"aliases": true,
	}
	enumReserved = map[string]bool{
		"doc": true, "fields": true, "items": true, "name": true,
		"namespace": true, "size": true, "symbols": true, "values": true, "type": true,
		"aliases": true, "default": true,
	}
	fieldReserved = map[string]bool{
		"default": true, "doc": true, "name": true, "order": true,
		"type": true, "aliases": true,
	}
)

// propsOf returns the members that Avro has no meaning for, in order.
func propsOf(v *value, reserved map[string]bool) []member {
	var props []member
	for i := range v.members {
		if !reserved[v.members[i].key] {
			props = append(props, v.members[i])
		}
	}
	return props
}
