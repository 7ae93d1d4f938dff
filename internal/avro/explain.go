package avro

import (
	"fmt"
	"unicode/utf16"
)

// Explain returns the registry's message about a reason, byte for byte as
// tools compare it. reader and writer say which schema is which: "new" and
// "old", or the other way round.
func (r Reason) Explain(reader, writer string) string {
	var text string
	switch r.Type {
	case FixedSizeMismatch:
		text = fmt.Sprintf("The size of FIXED type field at path '%s' in the %s schema "+
			"does not match with the %s schema", r.Location, reader, writer)
	case TypeMismatch:
		text = fmt.Sprintf("The type (path '%s') of a field in the %s schema "+
			"does not match with the %s schema", r.Location, reader, writer)
	case NameMismatch:
		text = fmt.Sprintf("The name of the schema has changed (path '%s')", r.Location)
	case MissingEnumSymbols:
		text = fmt.Sprintf("The %s schema is missing enum symbols '%s' at path '%s' "+
			"in the %s schema", reader, r.Message, r.Location, writer)
	case MissingUnionBranch:
		text = fmt.Sprintf("The %s schema is missing a type inside a union field at path '%s' "+
			"in the %s schema", reader, r.Location, writer)
	case MissingDefault:
		text = fmt.Sprintf("The field '%s' at path '%s' in the %s schema has no default value "+
			"and is missing in the %s schema", r.Message, r.Location, reader, writer)
	}
	return fmt.Sprintf("{errorType:'%s', description:'%s', additionalInfo:'%s'}",
		r.Type, text, r.Message)
}

// oldSchemaUnits is how much of an old schema a message quotes, in UTF-16
// units.
const oldSchemaUnits = 10 * 1024

// quoteOld returns the message that quotes the old schema.
func quoteOld(old *Schema) string {
	text := old.Canonical()
	if len(text) <= oldSchemaUnits {
		return "{oldSchema: '" + text + "'}"
	}
	units := utf16.Encode([]rune(text))
	if len(units) <= oldSchemaUnits {
		return "{oldSchema: '" + text + "'}"
	}
	return fmt.Sprintf("{oldSchema: <truncated to %d characters> '%s'}",
		oldSchemaUnits, string(utf16.Decode(units[:oldSchemaUnits])))
}
