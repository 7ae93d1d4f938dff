package avro

import "strconv"

// Canonical returns the schema's text as Avro Java prints it: the text that
// the registry stores and hashes. Docs, defaults, aliases, properties and the
// order of fields stay; white space and the order of keys do not. The roots of
// the references appear as names.
func (s *Schema) Canonical() string {
	p := printer{seen: make(map[string]bool)}
	for _, name := range s.known {
		p.seen[name] = true
	}
	p.typ(s.root, "")
	return string(p.b)
}

// Resolved returns the canonical text with the references' types written out
// where they are first met, so that it stands alone.
func (s *Schema) Resolved() string { return s.root.String() }

// String returns the type's canonical text, with every type that it names.
func (t *Type) String() string {
	p := printer{seen: make(map[string]bool)}
	p.typ(t, "")
	return string(p.b)
}

// printer writes canonical text; seen are the types that appear as names.
type printer struct {
	b    []byte
	seen map[string]bool
}

func (p *printer) raw(s string)  { p.b = append(p.b, s...) }
func (p *printer) text(s string) { p.b = appendText(p.b, s) }

// typ writes a type inside a namespace.
func (p *printer) typ(t *Type, space string) {
	switch t.kind {
	case Record, Enum, Fixed:
		p.named(t, space)
	case Array, Map:
		key := `,"items":`
		if t.kind == Map {
			key = `,"values":`
		}
		p.raw(`{"type":"` + t.kind.String() + `"` + key)
		p.typ(t.elem, space)
		p.props(t.props)
		p.raw("}")
	case Union:
		p.raw("[")
		for i, b := range t.branches {
			if i > 0 {
				p.raw(",")
			}
			p.typ(b, space)
		}
		p.raw("]")
	default:
		if len(t.props) == 0 {
			p.raw(`"` + t.kind.String() + `"`)
			return
		}
		p.raw(`{"type":"` + t.kind.String() + `"`)
		p.props(t.props)
		p.raw("}")
	}
}

func (p *printer) named(t *Type, space string) {
	if p.seen[t.full] {
		p.text(t.name.qualified(space))
		return
	}
	p.seen[t.full] = true
	kind := t.kind.String()
	if t.isError {
		kind = "error"
	}
	p.raw(`{"type":"` + kind + `","name":`)
	p.text(t.name.Simple)
	if t.name.Space != space {
		p.raw(`,"namespace":`)
		p.text(t.name.Space)
	}
	if t.hasDoc {
		p.raw(`,"doc":`)
		p.text(t.doc)
	}
	switch t.kind {
	case Record:
		p.fields(t)
	case Enum:
		p.texts("symbols", t.symbols)
		if t.hasEnum {
			p.raw(`,"default":`)
			p.text(t.enumDef)
		}
	case Fixed:
		p.raw(`,"size":`)
		p.b = strconv.AppendInt(p.b, int64(t.size), 10)
	}
	p.props(t.props)
	if len(t.aliases) > 0 {
		aliases := make([]string, len(t.aliases))
		for i, a := range t.aliases {
			aliases[i] = a.qualified(t.name.Space)
		}
		p.texts("aliases", aliases)
	}
	p.raw("}")
}

func (p *printer) fields(t *Type) {
	p.raw(`,"fields":[`)
	for i := range t.fields {
		f := &t.fields[i]
		if i > 0 {
			p.raw(",")
		}
		p.raw(`{"name":`)
		p.text(f.name)
		p.raw(`,"type":`)
		p.typ(f.typ, t.name.Space)
		if f.hasDoc {
			p.raw(`,"doc":`)
			p.text(f.doc)
		}
		if f.def != nil {
			p.raw(`,"default":`)
			p.b = f.def.append(p.b)
		}
		if f.order != ascending {
			p.raw(`,"order":"` + orderNames[f.order] + `"`)
		}
		if len(f.aliases) > 0 {
			p.texts("aliases", f.aliases)
		}
		p.props(f.props)
		p.raw("}")
	}
	p.raw("]")
}

func (p *printer) texts(key string, list []string) {
	p.raw(`,"` + key + `":[`)
	for i, s := range list {
		if i > 0 {
			p.raw(",")
		}
		p.text(s)
	}
	p.raw("]")
}

func (p *printer) props(props []member) {
	for i := range props {
		p.raw(",")
		p.text(props[i].key)
		p.raw(":")
		p.b = props[i].value.append(p.b)
	}
}
