package avro

import (
	"errors"
	"fmt"
)

// Mode says how much of a schema is checked when it is parsed.
type Mode uint8

const (
	// Strict checks names (letters, digits and underscores, no digit first)
	// and defaults, as for a schema that is being registered.
	Strict Mode = iota
	// Lenient takes any name and any default, as for a schema that was
	// accepted long ago.
	Lenient
)

// Limits bound what a schema may cost. A zero field stands for its default.
type Limits struct {
	// TextBytes bounds the schema's text. Default 1 MiB.
	TextBytes int
	// ReferenceBytes bounds the texts of all references together. Default
	// 1 MiB.
	ReferenceBytes int
	// ReferenceCount bounds the number of references. Default 1,000.
	ReferenceCount int
	// NestingCount bounds how deep types are nested in one another, as the
	// canonical text nests them. Default 128.
	NestingCount int
	// FieldCount bounds the fields of all records of one text. Default
	// 10,000.
	FieldCount int
	// BranchCount bounds the branches of one union. Default 1,000.
	BranchCount int
	// SymbolCount bounds the symbols of all enums of one text. Default
	// 65,536.
	SymbolCount int
}

// DefaultLimits returns the limits that the registry promises.
func DefaultLimits() Limits {
	return Limits{
		TextBytes:      1 << 20,
		ReferenceBytes: 1 << 20,
		ReferenceCount: 1_000,
		NestingCount:   128,
		FieldCount:     10_000,
		BranchCount:    1_000,
		SymbolCount:    1 << 16,
	}
}

// filled returns the limits with defaults in place of zeros.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, p := range []struct{ have, want *int }{
		{&l.TextBytes, &d.TextBytes},
		{&l.ReferenceBytes, &d.ReferenceBytes},
		{&l.ReferenceCount, &d.ReferenceCount},
		{&l.NestingCount, &d.NestingCount},
		{&l.FieldCount, &d.FieldCount},
		{&l.BranchCount, &d.BranchCount},
		{&l.SymbolCount, &d.SymbolCount},
	} {
		if *p.have <= 0 {
			*p.have = *p.want
		}
	}
	return l
}

// jsonDepth is how deep the JSON of a schema may nest: a record costs an
// object, an array and an object; the rest is for defaults and properties.
func (l Limits) jsonDepth() int { return 3*l.NestingCount + 64 }

var (
	// ErrSchema is what every error about a schema is, by errors.Is.
	ErrSchema = errors.New("not a valid Avro schema")
	// ErrData is what every error about binary data is, by errors.Is.
	ErrData = errors.New("not valid Avro data")
	// ErrTooComplex is what an error is, besides ErrSchema, when a schema is
	// refused for the work it would cause and not for being wrong.
	ErrTooComplex = errors.New("too complex")
)

// SchemaError says what is wrong with a schema, and where.
type SchemaError struct {
	// Pointer is the JSON pointer (RFC 6901) of the place in the schema's
	// text: empty for the whole text.
	Pointer string
	// Reference is the 1-based position of the reference that is wrong, and
	// 0 for the schema itself.
	Reference int
	// Problem says what is wrong, and what would be right.
	Problem string
	// Complex tells that a limit was passed.
	Complex bool
}

// Error returns the place and the problem.
func (e *SchemaError) Error() string {
	place := ""
	if e.Reference > 0 {
		place = fmt.Sprintf("in reference %d ", e.Reference)
	}
	if e.Pointer != "" {
		place += "at " + e.Pointer
	}
	if place == "" {
		return e.Problem
	}
	if place[len(place)-1] == ' ' {
		place = place[:len(place)-1]
	}
	return place + ": " + e.Problem
}

// Is makes errors.Is(err, ErrSchema) true, and errors.Is(err, ErrTooComplex)
// where a limit was passed.
func (e *SchemaError) Is(target error) bool {
	return target == ErrSchema || e.Complex && target == ErrTooComplex
}

// DataError says what is wrong with binary data, and where.
type DataError struct {
	// Offset is the position of the byte, from 0, at which reading failed.
	Offset int
	// Problem says what is wrong.
	Problem string
}

// Error returns the offset and the problem.
func (e *DataError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Problem) }

// Is makes errors.Is(err, ErrData) true.
func (e *DataError) Is(target error) bool { return target == ErrData }

// clip shortens text that an error quotes from its caller.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "..."
}
