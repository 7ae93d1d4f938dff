package serde

import (
	"reflect"
	"strings"
	"sync"
)

// tag is the key of the struct tag that names a field.
const tag = "avro"

// layouts holds what fieldsOf found, by reflect.Type: a program has only so
// many.
var layouts sync.Map

// fieldsOf returns the paths to the fields of a struct, by their names in a
// schema: the tag, or the Go name. Fields of embedded structs count as the
// struct's own, those that are nearer to it first.
func fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := layouts.Load(t); ok {
		return known.(map[string][]int) //nolint:errcheck // nothing else is stored
	}
	fields := make(map[string][]int)
	for _, f := range reflect.VisibleFields(t) {
		name := f.Name
		if given, ok := f.Tag.Lookup(tag); ok {
			name, _, _ = strings.Cut(given, ",")
		}
		if !f.IsExported() || f.Anonymous && isStruct(f.Type) {
			continue
		}
		if held, ok := fields[name]; ok && len(held) <= len(f.Index) {
			continue
		}
		fields[name] = f.Index
	}
	layouts.Store(t, fields)
	return fields
}

// isStruct tells whether an embedded type is a struct whose fields are taken
// for its holder's.
func isStruct(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}
