package serde

import (
	"strings"

	"github.com/sluicelog/sluice/internal/avro"
)

// node is a type of a schema, prepared for encoding and decoding. Recursive
// schemas are cycles of nodes. A node never changes once its Codec is made.
type node struct {
	kind avro.Kind
	// name is what the type is called as a branch of a union: its full name,
	// or its kind.
	name     string
	simple   string // the last part of a record's name
	logical  avro.Logical
	size     int // of a fixed
	symbols  []string
	fields   []field
	elem     *node
	branches []*node
	// index holds the positions of the fields, symbols or branches.
	index map[string]int
	// null is the position of a union's null, or -1.
	null int
	// bare tells that the Go values of a union's branches tell themselves
	// apart.
	bare bool
}

// field is a field of a record.
type field struct {
	name   string
	node   *node
	def    string // JSON
	hasDef bool
	// extra is what a value costs besides itself: a map hashes the name, and
	// JSON writes it.
	extra int
}

// compile prepares a type and all that it reaches.
func compile(root *avro.Type) *node {
	return (compiler{}).node(root)
}

// nameBytesFree is how many bytes of a field's name count as one value.
const nameBytesFree = 64

// compiler remembers the nodes of types that it met.
type compiler map[*avro.Type]*node

func (c compiler) node(t *avro.Type) *node {
	if n := c[t]; n != nil {
		return n
	}
	n := &node{
		kind: t.Kind(), name: t.FullName(), simple: t.Name().Simple,
		logical: t.Logical(), size: t.Size(), symbols: t.Symbols(), null: -1,
	}
	c[t] = n
	switch n.kind {
	case avro.Record:
		fields := t.Fields()
		n.fields = make([]field, len(fields))
		n.index = make(map[string]int, len(fields))
		for i := range fields {
			f := &fields[i]
			def, has := f.Default()
			n.fields[i] = field{
				name: f.Name(), node: c.node(f.Type()), def: def, hasDef: has,
				extra: len(f.Name()) / nameBytesFree,
			}
			n.index[f.Name()] = i
		}
	case avro.Enum:
		n.index = make(map[string]int, len(n.symbols))
		for i, symbol := range n.symbols {
			n.index[symbol] = i
		}
	case avro.Array, avro.Map:
		n.elem = c.node(t.Elem())
	case avro.Union:
		c.union(n, t)
	}
	return n
}

func (c compiler) union(n *node, t *avro.Type) {
	n.index = make(map[string]int, len(t.Branches()))
	n.bare = true
	shapes := make(map[string]bool, len(t.Branches()))
	for i, b := range t.Branches() {
		branch := c.node(b)
		n.branches = append(n.branches, branch)
		n.index[branch.name] = i
		if branch.kind == avro.Null {
			n.null = i
		}
		shape := branch.shape()
		n.bare = n.bare && !shapes[shape]
		shapes[shape] = true
	}
}

// shape names the Go type to which values of the node are decoded where the
// program asks for none.
func (n *node) shape() string {
	switch name := n.logical.Name; {
	case name == "date", strings.Contains(name, "timestamp-"):
		return "time"
	case strings.HasPrefix(name, "time-"):
		return "span"
	case name == "decimal", name == "duration":
		return name
	case name == "uuid", n.kind == avro.Enum:
		return "string"
	case n.kind == avro.Fixed:
		return "bytes"
	case n.kind == avro.Record:
		return "map"
	}
	return n.kind.String()
}

// labels lists the branches of a union for an error.
func (n *node) labels() string {
	names := make([]string, 0, len(n.branches))
	for i, b := range n.branches {
		if i == 20 {
			names = append(names, "...")
			break
		}
		names = append(names, clip(b.name))
	}
	return strings.Join(names, ", ")
}

// choices lists the symbols of an enum for an error.
func (n *node) choices() string {
	names := n.symbols
	more := ""
	if len(names) > 20 {
		names, more = names[:20], ", ..."
	}
	short := make([]string, len(names))
	for i, s := range names {
		short[i] = clip(s)
	}
	return strings.Join(short, ", ") + more
}

// label names the type for an error: its name, and what it means.
func (n *node) label() string {
	if n.logical.Name == "" {
		return clip(n.name)
	}
	return clip(n.name) + " (" + n.logical.Name + ")"
}
