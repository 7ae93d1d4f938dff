package avro

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Options says how to parse. The zero value is strict, with no references and
// default limits.
type Options struct {
	// Mode is Strict or Lenient.
	Mode Mode
	// References are the texts of the schemas whose types the schema may
	// name, each before those that use it.
	References []string
	// Limits bound the cost.
	Limits Limits
}

// Parse reads a schema. It takes what Avro Java takes: comments as white
// space, types used before they are defined, a type defined twice if both
// definitions are equal. An error is a *SchemaError, which names the place.
func Parse(text string, o Options) (*Schema, error) {
	limits := o.Limits.filled()
	s := &Schema{outside: slices.Clone(o.References), mode: o.Mode, limits: limits}
	if len(o.References) > limits.ReferenceCount {
		return nil, &SchemaError{Complex: true, Problem: fmt.Sprintf(
			"%d references; at most %d are allowed", len(o.References), limits.ReferenceCount)}
	}
	total := 0
	table := map[string]*Type{}
	for i, ref := range o.References {
		if total += len(ref); total > limits.ReferenceBytes {
			return nil, &SchemaError{Complex: true, Reference: i + 1, Problem: fmt.Sprintf(
				"the references have more than %d bytes together", limits.ReferenceBytes)}
		}
		p := newParser(o.Mode, limits, table)
		p.reference = true
		root, err := p.parse(ref, nil)
		if err != nil {
			err.Reference = i + 1
			return nil, err
		}
		if root.kind.named() {
			s.known = append(s.known, root.full)
		}
	}
	root, err := newParser(o.Mode, limits, table).parse(text, s.known)
	if err != nil {
		return nil, err
	}
	s.root = root
	return s, nil
}

// parser reads one text into types; table is shared with the references.
type parser struct {
	mode   Mode
	limits Limits
	// reference tells that the text is one of the references.
	reference bool
	table     map[string]*Type // every known type by full name
	fresh     []*Type          // named types of this text, in the order of their ends
	holders   []*Type          // types of this text that refer to others
	waiting   map[*Type]string // forward references and their places
	path      []step
	depth     int
	fields    int
	symbols   int
	steps     int // left for checking defaults
}

// step is a step of a JSON pointer.
type step struct {
	key   string
	index int // where key is empty
}

func newParser(mode Mode, limits Limits, table map[string]*Type) *parser {
	return &parser{
		mode: mode, limits: limits, table: table, waiting: map[*Type]string{},
		steps: defaultSteps,
	}
}

// parse reads one text; known are the types that its canonical text names.
func (p *parser) parse(text string, known []string) (*Type, *SchemaError) {
	if len(text) > p.limits.TextBytes {
		return nil, &SchemaError{Complex: true, Problem: fmt.Sprintf(
			"the text has %d bytes; at most %d are allowed", len(text), p.limits.TextBytes)}
	}
	tree, err := decodeJSON(text, p.limits.jsonDepth())
	if err != nil {
		return nil, func() *SchemaError {
			target := &SchemaError{}
			_ = errors.As(err, &target)
			return target
		}()
	}
	root, err := p.schema(tree, "")
	if err != nil {
		return nil, func() *SchemaError {
			target := &SchemaError{}
			_ = errors.As(err, &target)
			return target
		}()
	}
	if err := p.finish(&root, known); err != nil {
		return nil, func() *SchemaError {
			target := &SchemaError{}
			_ = errors.As(err, &target)
			return target
		}()
	}
	return root, nil
}

func (p *parser) fail(format string, args ...any) error {
	return &SchemaError{Pointer: p.pointer(), Problem: fmt.Sprintf(format, args...)}
}

func (p *parser) over(format string, args ...any) error {
	return &SchemaError{
		Pointer: p.pointer(), Problem: fmt.Sprintf(format, args...), Complex: true,
	}
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func (p *parser) pointer() string {
	var b strings.Builder
	for _, s := range p.path {
		if s.key == "" {
			fmt.Fprintf(&b, "/%d", s.index)
			continue
		}
		b.WriteString("/" + pointerEscapes.Replace(s.key))
	}
	return b.String()
}

func (p *parser) enter(key string) { p.path = append(p.path, step{key: key}) }
func (p *parser) enterItem(i int)  { p.path = append(p.path, step{index: i}) }
func (p *parser) leave()           { p.path = p.path[:len(p.path)-1] }
func quoted(v *value) string       { return clip(string(v.append(nil))) }
func isPrimitive(name string) bool { return primitives[name] != 0 }

// widths of the primitive types.
var primitiveWidths = [...]int64{
	String: 1, Bytes: 1, Int: 1, Long: 1, Float: 4, Double: 8, Boolean: 1, Null: 0,
}

func primitiveType(kind Kind) *Type {
	return &Type{
		definition: blank, kind: kind, full: kindNames[kind],
		width: primitiveWidths[kind],
	}
}

// schema reads a schema inside a namespace. The path stands on it, also when
// it fails.
func (p *parser) schema(v *value, space string) (*Type, error) {
	if p.depth++; p.depth > p.limits.NestingCount {
		return nil, p.over("types are nested more than %d deep", p.limits.NestingCount)
	}
	defer func() { p.depth-- }()
	switch v.kind {
	case isText:
		return p.find(v.text, space), nil
	case isArray:
		return p.union(v, space)
	case isObject:
		return p.object(v, space)
	}
	return nil, p.fail("a schema is a text, an array or an object, not %s", quoted(v))
}

func (p *parser) object(v *value, space string) (*Type, error) {
	name, ok := v.textOf("type")
	if !ok {
		return nil, p.fail(`no "type" that is a text in %s`, quoted(v))
	}
	switch name {
	case "record", "error":
		return p.record(v, space, name == "error")
	case "enum":
		return p.enum(v, space)
	case "fixed":
		return p.fixed(v, space)
	case "array":
		return p.holder(v, Array, "items", space)
	case "map":
		return p.holder(v, Map, "values", space)
	}
	kind, ok := primitives[name]
	if !ok {
		return p.find(name, space), nil
	}
	t := primitiveType(kind)
	t.props = propsOf(v, typeReserved)
	t.meaning = logicalOf(t)
	return t, nil
}

// find returns the type that a name means in a namespace: a primitive, a type
// of that namespace, one of exactly that name, or a forward reference.
func (p *parser) find(name, space string) *Type {
	if kind, ok := primitives[name]; ok {
		return primitiveType(kind)
	}
	full := name
	if space != "" && !strings.Contains(name, ".") {
		full = space + "." + name
	}
	if t := p.table[full]; t != nil {
		return t
	}
	if t := p.table[name]; t != nil {
		return t
	}
	t := &Type{definition: &definition{waits: true, awaits: full}, kind: Record, full: full}
	p.waiting[t] = p.pointer()
	return t
}

func (p *parser) union(v *value, space string) (*Type, error) {
	if len(v.items) > p.limits.BranchCount {
		return nil, p.over("a union of %d branches; at most %d are allowed",
			len(v.items), p.limits.BranchCount)
	}
	t := &Type{
		definition: blank, kind: Union, full: "union", width: 1,
		branches: make([]*Type, len(v.items)),
	}
	for i := range v.items {
		p.enterItem(i)
		branch, err := p.schema(&v.items[i], space)
		if err != nil {
			return nil, err
		}
		if branch.kind == Union {
			return nil, p.fail("a union directly in a union")
		}
		t.branches[i] = branch
		p.leave()
	}
	if twice := repeated(t.branches); twice != "" {
		return nil, p.fail("the union has the branch %q twice", twice)
	}
	p.holders = append(p.holders, t)
	return t, nil
}

// repeated returns the name of a branch that a union has twice, if any.
func repeated(branches []*Type) string {
	const few = 8
	if len(branches) <= few {
		for i, b := range branches {
			for _, other := range branches[:i] {
				if !b.waits && !other.waits && b.full == other.full {
					return b.full
				}
			}
		}
		return ""
	}
	seen := make(map[string]bool, len(branches))
	for _, b := range branches {
		if !b.waits && seen[b.full] {
			return b.full
		}
		seen[b.full] = !b.waits
	}
	return ""
}

func (p *parser) holder(v *value, kind Kind, key, space string) (*Type, error) {
	inner := v.get(key)
	if inner == nil {
		return nil, p.fail("%s %s without %q", article(kind), kind, key)
	}
	p.enter(key)
	elem, err := p.schema(inner, space)
	if err != nil {
		return nil, err
	}
	p.leave()
	t := &Type{
		definition: blank, kind: kind, full: kind.String(), width: 1, elem: elem,
		props: propsOf(v, typeReserved),
	}
	p.holders = append(p.holders, t)
	return t, nil
}

func article(kind Kind) string {
	if kind == Array || kind == Enum {
		return "an"
	}
	return "a"
}

func (p *parser) enum(v *value, space string) (*Type, error) {
	t, err := p.named(v, Enum, space)
	if err != nil {
		return nil, err
	}
	symbols := v.get("symbols")
	if symbols == nil || symbols.kind != isArray {
		return nil, p.fail(`the enum %s has no "symbols" that are an array`, t.full)
	}
	if p.symbols += len(symbols.items); p.symbols > p.limits.SymbolCount {
		return nil, p.over("more than %d enum symbols", p.limits.SymbolCount)
	}
	t.symbols = make([]string, len(symbols.items))
	t.byName = make(map[string]int, len(symbols.items))
	for i := range symbols.items {
		item := &symbols.items[i]
		p.enter("symbols")
		p.enterItem(i)
		if item.kind != isText {
			return nil, p.fail("an enum symbol is a text, not %s", quoted(item))
		}
		if err := p.check(item.text, "enum symbol"); err != nil {
			return nil, err
		}
		if _, twice := t.byName[item.text]; twice {
			return nil, p.fail("the enum %s has the symbol %q twice", t.full, item.text)
		}
		p.leave()
		p.leave()
		t.symbols[i], t.byName[item.text] = item.text, i
	}
	if t.enumDef, t.hasEnum = v.textOf("default"); t.hasEnum && t.symbol(t.enumDef) < 0 {
		p.enter("default")
		return nil, p.fail("the default %q is no symbol of the enum %s", t.enumDef, t.full)
	}
	t.width = 1
	t.props = propsOf(v, enumReserved)
	return t, p.define(t, v)
}

func (p *parser) fixed(v *value, space string) (*Type, error) {
	t, err := p.named(v, Fixed, space)
	if err != nil {
		return nil, err
	}
	const most = math.MaxInt32 - 8 // the longest array of a Java machine
	size := v.get("size")
	if size == nil || size.kind != isInt || size.integer() < 0 ||
		size.integer() > most {
		return nil, p.fail(`the fixed %s needs a "size" that is an integer from 0 to %d`,
			t.full, most)
	}
	t.size = int(size.integer())
	t.width = size.integer()
	t.props = propsOf(v, typeReserved)
	t.meaning = logicalOf(t)
	return t, p.define(t, v)
}
