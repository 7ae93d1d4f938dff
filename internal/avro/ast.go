// Package avro knows Avro schemas: it parses them as Avro's Java library does,
// prints their canonical, normalized and parsing forms, decides whether one
// schema can read what another wrote and says every reason why not, and walks
// untrusted binary data without trusting any number in it. It has no I/O, no
// goroutine and no global state: every call has its own table of names, and a
// *Schema never changes, so any number of goroutines may use one.
//
// Its answers follow Avro Java 1.12: the registry's identity of a schema is a
// hash of Java's text, so a byte of difference would be another schema.
package avro

import "strings"

// Kind says which of Avro's fourteen types a Type is.
type Kind uint8

// The kinds, in the order in which Java declares them.
const (
	Record Kind = iota + 1
	Enum
	Array
	Map
	Union
	Fixed
	String
	Bytes
	Int
	Long
	Float
	Double
	Boolean
	Null
)

var kindNames = [...]string{
	Record: "record", Enum: "enum", Array: "array", Map: "map", Union: "union",
	Fixed: "fixed", String: "string", Bytes: "bytes", Int: "int", Long: "long",
	Float: "float", Double: "double", Boolean: "boolean", Null: "null",
}

var primitives = map[string]Kind{
	"string": String, "bytes": Bytes, "int": Int, "long": Long,
	"float": Float, "double": Double, "boolean": Boolean, "null": Null,
}

// String returns the kind's name in a schema, such as "record".
func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return "invalid"
}

// upper is the kind as Java's messages write it, such as "RECORD".
func (k Kind) upper() string { return strings.ToUpper(k.String()) }

// named tells whether types of this kind have a name of their own.
func (k Kind) named() bool { return k == Record || k == Enum || k == Fixed }

// Name is the name of a record, an enum or a fixed.
type Name struct {
	// Simple is the last part.
	Simple string
	// Space is the namespace, or nothing for the null namespace.
	Space string
}

// Full returns the dotted name: the namespace, a dot and the simple name.
func (n Name) Full() string {
	if n.Space == "" {
		return n.Simple
	}
	return n.Space + "." + n.Simple
}

// newName reads text as a name inside a namespace: a dot in text wins over it.
func newName(text, space string) Name {
	if dot := strings.LastIndexByte(text, '.'); dot >= 0 {
		return Name{Simple: text[dot+1:], Space: text[:dot]}
	}
	return Name{Simple: text, Space: space}
}

// qualified is the shortest text that means n inside a namespace. A name that
// could be taken for a type ("a.int", "a.record") is always written in full.
func (n Name) qualified(space string) string {
	if n.Space == "" || n.Space != space {
		return n.Full()
	}
	for _, k := range kindNames {
		if k == n.Simple && k != "" {
			return n.Full()
		}
	}
	return n.Simple
}

// Type is a node of a schema. Recursive schemas are cycles of nodes: whoever
// walks them stops at records already seen.
type Type struct {
	*definition // of a named type; blank for any other

	kind     Kind
	full     string // the full name, or the kind's name
	elem     *Type  // of an array or a map
	branches []*Type
	props    []member
	meaning  *Logical
	// width is the least number of bytes a value takes; 0 means that every
	// value takes none.
	width int64
}

// definition is what only records, enums and fixed have.
type definition struct {
	name    Name
	isError bool
	hasDoc  bool
	hasEnum bool // an enum with a default symbol
	// endless marks a record that holds itself in every value: there is none.
	endless bool
	// done marks a type whose text is parsed to its end.
	done    bool
	doc     string
	aliases []Name
	fields  []Field
	byName  map[string]int // positions of fields or symbols
	symbols []string
	enumDef string
	size    int
	// waits marks a forward reference to the type named awaits; it exists
	// only while its schema is parsed.
	waits  bool
	awaits string
}

// blank is the definition of types without a name, so that they can be asked
// for fields or symbols.
var blank = &definition{}

// Field is a field of a record.
type Field struct {
	name    string
	typ     *Type
	doc     string
	hasDoc  bool
	def     *value
	order   order
	aliases []string
	props   []member
}

type order uint8

const (
	ascending order = iota
	descending
	ignore
)

var orderNames = [...]string{ascending: "ascending", descending: "descending", ignore: "ignore"}

// Kind says what the type is.
func (t *Type) Kind() Kind { return t.kind }

// FullName returns the dotted name of a named type, and the kind's name, such
// as "int", of any other.
func (t *Type) FullName() string { return t.full }

// Name returns the name of a record, an enum or a fixed, and the zero Name for
// any other type.
func (t *Type) Name() Name { return t.name }

// Doc returns the doc text of a named type, or nothing.
func (t *Type) Doc() string { return t.doc }

// Fields returns the fields of a record, in order. The slice is the schema's:
// do not change it.
func (t *Type) Fields() []Field { return t.fields }

// Symbols returns the symbols of an enum, in order. The slice is the schema's:
// do not change it.
func (t *Type) Symbols() []string { return t.symbols }

// EnumDefault returns the default symbol of an enum, and false if it has none.
func (t *Type) EnumDefault() (string, bool) { return t.enumDef, t.hasEnum }

// Size returns the number of bytes of a fixed.
func (t *Type) Size() int { return t.size }

// Elem returns the type of the items of an array or the values of a map.
func (t *Type) Elem() *Type { return t.elem }

// Branches returns the types of a union, in order. The slice is the schema's:
// do not change it.
func (t *Type) Branches() []*Type { return t.branches }

// Logical returns the type's logical type; its Name is empty if there is none
// or if the attributes do not fit the type, in which case Avro ignores it.
func (t *Type) Logical() Logical {
	if t.meaning == nil {
		return Logical{}
	}
	return *t.meaning
}

// field returns the field called name, or nil.
func (t *Type) field(name string) *Field {
	if i, ok := t.byName[name]; ok {
		return &t.fields[i]
	}
	return nil
}

// symbol returns the position of a symbol, or -1.
func (t *Type) symbol(name string) int {
	if i, ok := t.byName[name]; ok {
		return i
	}
	return -1
}

// aliased tells whether one of the type's aliases is the given full name.
func (t *Type) aliased(full string) bool {
	for _, a := range t.aliases {
		if a.Full() == full {
			return true
		}
	}
	return false
}

// Name returns the field's name.
func (f *Field) Name() string { return f.name }

// Type returns the field's type.
func (f *Field) Type() *Type { return f.typ }

// Doc returns the field's doc text, or nothing.
func (f *Field) Doc() string { return f.doc }

// Aliases returns the field's aliases. The slice is the schema's: do not
// change it.
func (f *Field) Aliases() []string { return f.aliases }

// Default returns the field's default as JSON text, and false if the field has
// none. A default of null is "null" and true.
func (f *Field) Default() (string, bool) {
	if f.def == nil {
		return "", false
	}
	return string(f.def.append(nil)), true
}

// Schema is a parsed schema: a root type and what it was parsed with.
type Schema struct {
	root *Type
	// known are the full names of the roots of the references: Canonical
	// writes them as names, for whoever stores it has the references too.
	known []string
	// outside are the texts of the references, for parsing again.
	outside []string
	mode    Mode
	limits  Limits
}

// Root returns the schema's outermost type.
func (s *Schema) Root() *Type { return s.root }
