package serde

import (
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"time"

	"github.com/sluicelog/sluice/internal/avro"
)

// Union is a value of a union together with its branch. Encoding takes it
// anywhere in place of a plain value. Decoding makes it where the Go types of
// the branches do not tell them apart, such as for a union of two records.
type Union struct {
	// Branch is the full name of a record, an enum or a fixed, and otherwise
	// the kind, such as "string".
	Branch string
	// Value is the branch's value.
	Value any
}

var (
	unionType  = reflect.TypeFor[Union]()
	numberType = reflect.TypeFor[json.Number]()
	timeType   = reflect.TypeFor[time.Time]()
	spanType   = reflect.TypeFor[time.Duration]()
	ratType    = reflect.TypeFor[big.Rat]()
	bigIntType = reflect.TypeFor[big.Int]()
	monthsType = reflect.TypeFor[Duration]()
)

// union writes the branch that a value is of, and the value.
func (e *encoder) union(n *node, v reflect.Value) error {
	if isNil(v) && n.null >= 0 {
		e.long(int64(n.null))
		return nil
	}
	v = settle(v)
	if !v.IsValid() {
		return unfit("there is no value, and the union of %s has no null", n.labels())
	}
	at := 0
	if v.Type() == unionType {
		u := v.Interface().(Union)
		i, ok := n.index[u.Branch]
		if !ok {
			return unfit("%q is no branch of the union of %s", clip(u.Branch), n.labels())
		}
		at, v = i, reflect.ValueOf(u.Value)
	} else {
		i, err := n.pick(v)
		if err != nil {
			return err
		}
		at = i
	}
	e.long(int64(at))
	return e.value(n.branches[at], v)
}

// isNil tells whether v is nil, or points to nil.
func isNil(v reflect.Value) bool {
	for range pointersMax {
		if !v.IsValid() {
			return true
		}
		switch v.Kind() {
		case reflect.Interface, reflect.Pointer:
			if v.IsNil() {
				return true
			}
			v = v.Elem()
		case reflect.Slice, reflect.Map:
			return v.IsNil()
		default:
			return false
		}
	}
	return true
}

// How well a Go value fits a branch.
const (
	fitsNot = iota
	fitsLoosely
	fitsWell
	fitsBest
)

// pick returns the branch that a plain Go value fits best. Two that it fits
// equally well are an error: a guess would be read as something else.
func (n *node) pick(v reflect.Value) (int, error) {
	best, at, twice := fitsNot, -1, -1
	for i, b := range n.branches {
		switch f := b.fit(v); {
		case f > best:
			best, at, twice = f, i, -1
		case f == best && f > fitsNot:
			twice = i
		}
	}
	switch {
	case at < 0:
		return 0, unfit("%s is none of the union of %s", clip(v.Type().String()), n.labels())
	case twice >= 0:
		return 0, unfit("%s may be %s or %s; say which with a serde.Union",
			clip(v.Type().String()), clip(n.branches[at].name), clip(n.branches[twice].name))
	}
	return at, nil
}

// fit tells how well a Go value fits the node, by its type and not by its
// parts.
func (n *node) fit(v reflect.Value) int {
	switch v.Type() {
	case timeType, spanType, ratType, bigIntType, monthsType:
		if n.takes(v.Type()) {
			return fitsBest
		}
		return fitsNot
	case numberType:
		return n.fitNumber(v.String())
	}
	switch n.kind {
	case avro.Boolean:
		return level(v.Kind() == reflect.Bool, fitsBest)
	case avro.Int, avro.Long:
		return n.fitInteger(v)
	case avro.Float, avro.Double:
		return n.fitFloat(v)
	case avro.String, avro.Enum:
		_, marshals := marshaler(v)
		return level(v.Kind() == reflect.String || marshals, fitsBest)
	case avro.Bytes, avro.Fixed:
		return n.fitBytes(v)
	case avro.Array:
		bytes := v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
		return level((v.Kind() == reflect.Slice || v.Kind() == reflect.Array) && !bytes, fitsBest)
	case avro.Map:
		return level(v.Kind() == reflect.Map, fitsBest)
	case avro.Record:
		if v.Kind() == reflect.Struct && v.Type().Name() == n.simple {
			return fitsBest
		}
		if v.Kind() == reflect.Struct {
			return fitsWell
		}
		return level(v.Kind() == reflect.Map, fitsBest)
	}
	return fitsNot
}

func level(is bool, fit int) int {
	if is {
		return fit
	}
	return fitsNot
}

// takes tells whether the node's logical type has Go values of a type.
func (n *node) takes(t reflect.Type) bool {
	shape := n.shape()
	switch t {
	case timeType:
		return shape == "time"
	case spanType:
		return shape == "span"
	case ratType, bigIntType:
		return shape == "decimal"
	}
	return shape == "duration"
}

func (n *node) fitInteger(v reflect.Value) int {
	if n.logical.Name != "" && !v.CanInt() && !v.CanUint() {
		return fitsNot
	}
	wide := n.kind == avro.Long
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		if wide {
			return fitsWell
		}
		return fitsBest
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		if wide {
			return fitsBest
		}
		_, err := integer(n, v)
		return level(err == nil, fitsWell)
	}
	return fitsNot
}

func (n *node) fitFloat(v reflect.Value) int {
	_, err := float(n, v)
	switch {
	case err != nil:
		return fitsNot
	case v.Kind() == reflect.Float32 && n.kind == avro.Float,
		v.Kind() == reflect.Float64 && n.kind == avro.Double:
		return fitsBest
	case v.CanFloat():
		return fitsWell
	case n.kind == avro.Double:
		return fitsLoosely
	}
	return fitsNot
}

func (n *node) fitNumber(text string) int {
	i, err := json.Number(text).Int64()
	switch n.kind {
	case avro.Int:
		return level(err == nil && i >= math.MinInt32 && i <= math.MaxInt32, fitsWell)
	case avro.Long:
		return level(err == nil, fitsBest)
	case avro.Double:
		return level(err != nil, fitsBest)
	}
	return fitsNot
}

func (n *node) fitBytes(v reflect.Value) int {
	b, ok := bytesOf(v)
	switch {
	case !ok || n.logical.Name == "decimal" || n.logical.Name == "duration":
		return fitsNot
	case n.kind == avro.Fixed:
		return level(len(b) == n.size, fitsBest)
	case v.Kind() == reflect.Array:
		return fitsWell
	}
	return fitsBest
}
