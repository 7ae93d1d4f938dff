package serde

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
	"time"

	"github.com/sluicelog/sluice/internal/avro"
)

// into reads a value into v, which is settable and zero.
func (d *decoder) into(n *node, v reflect.Value) error {
	if v.Kind() == reflect.Interface {
		return d.intoInterface(n, v)
	}
	if v.Type() == unionType {
		return d.intoUnion(n, v)
	}
	if n.kind == avro.Union {
		if err := d.spend(); err != nil {
			return err
		}
		b, err := d.branch(n)
		if err != nil {
			return err
		}
		return d.into(b, v)
	}
	if n.kind == avro.Null {
		switch v.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice:
			return nil
		}
		return unfit("a null cannot be read into %s; use a pointer to it", typeName(v))
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return d.into(n, v.Elem())
	}
	if err := d.spend(); err != nil {
		return err
	}
	if done, err := d.intoMeaning(n, v); done || err != nil {
		return err
	}
	switch n.kind {
	case avro.Record:
		return d.intoRecord(n, v)
	case avro.Array:
		return d.intoArray(n, v)
	case avro.Map:
		return d.intoMap(n, v)
	}
	return d.intoLeaf(n, v)
}

func typeName(v reflect.Value) string { return clip(v.Type().String()) }

func cannot(n *node, v reflect.Value) error {
	return unfit("%s cannot be read into %s", n.label(), typeName(v))
}

func (d *decoder) intoInterface(n *node, v reflect.Value) error {
	if v.NumMethod() > 0 {
		return cannot(n, v)
	}
	value, err := d.generic(n)
	if err == nil && value != nil {
		v.Set(reflect.ValueOf(value))
	}
	return err
}

// intoUnion reads into a Union, with the branch also where it could be left
// out.
func (d *decoder) intoUnion(n *node, v reflect.Value) error {
	b := n
	if n.kind == avro.Union {
		var err error
		if b, err = d.branch(n); err != nil {
			return err
		}
	}
	value, err := d.generic(b)
	if err == nil {
		v.Set(reflect.ValueOf(Union{Branch: b.name, Value: value}))
	}
	return err
}

func (d *decoder) intoLeaf(n *node, v reflect.Value) error {
	switch n.kind {
	case avro.Boolean:
		if v.Kind() != reflect.Bool {
			return cannot(n, v)
		}
		b, err := d.boolean()
		v.SetBool(b)
		return err
	case avro.Int, avro.Long:
		i, err := d.long()
		if err != nil {
			return err
		}
		return setInteger(n, v, i)
	case avro.Float:
		if !v.CanFloat() {
			return cannot(n, v)
		}
		f, err := d.float()
		v.SetFloat(float64(f))
		return err
	case avro.Double:
		f, err := d.double()
		if err != nil {
			return err
		}
		if !v.CanFloat() {
			return cannot(n, v)
		}
		v.SetFloat(f)
		if f == f && v.Float() != f {
			return unfit("%v is not exactly a %s", f, typeName(v))
		}
		return nil
	case avro.String:
		b, err := d.sized()
		if err != nil {
			return err
		}
		return setText(n, v, string(b))
	case avro.Enum:
		symbol, err := d.symbol(n)
		if err != nil {
			return err
		}
		return setText(n, v, symbol)
	}
	b, err := d.content(n)
	if err != nil {
		return err
	}
	return setBytes(n, v, b)
}

func setInteger(n *node, v reflect.Value, i int64) error {
	switch {
	case v.CanInt() && v.Type() != spanType:
		if v.OverflowInt(i) {
			return unfit("%d is out of range of %s", i, typeName(v))
		}
		v.SetInt(i)
	case v.CanUint():
		if i < 0 || v.OverflowUint(uint64(i)) {
			return unfit("%d is out of range of %s", i, typeName(v))
		}
		v.SetUint(uint64(i))
	case v.CanFloat():
		v.SetFloat(float64(i))
		if int64(v.Float()) != i || v.Float() >= 1<<63 {
			return unfit("%d has more digits than %s holds", i, typeName(v))
		}
	default:
		return cannot(n, v)
	}
	return nil
}

func setText(n *node, v reflect.Value, text string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return unfit("%s: %v", typeName(v), err)
		}
		return nil
	}
	if v.Kind() != reflect.String {
		return cannot(n, v)
	}
	v.SetString(text)
	return nil
}

func setBytes(n *node, v reflect.Value, b []byte) error {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(append([]byte{}, b...))
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		if v.Len() != len(b) {
			return unfit("%d bytes cannot be read into %s", len(b), typeName(v))
		}
		reflect.Copy(v, reflect.ValueOf(b))
	default:
		return cannot(n, v)
	}
	return nil
}

// intoMeaning reads a value of a logical type into the Go type that it has;
// done is false if v is for the type underneath.
func (d *decoder) intoMeaning(n *node, v reflect.Value) (done bool, err error) {
	if n.logical.Name == "" {
		return false, nil
	}
	t := v.Type()
	switch n.shape() {
	case "time", "span":
		if t != timeType && t != spanType {
			return false, nil
		}
	case "decimal":
		if t != ratType {
			return true, unfit("a decimal cannot be read into %s; use a *big.Rat", typeName(v))
		}
	case "duration":
		if t != monthsType {
			return false, nil
		}
	default: // a uuid
		if n.logical.Name == "uuid" {
			return d.intoUUID(n, v)
		}
		return false, nil
	}
	d.values++ // generic counts it again
	value, err := d.generic(n)
	if err != nil {
		return true, err
	}
	switch value := value.(type) {
	case *big.Rat:
		v.Addr().Interface().(*big.Rat).Set(value)
	case time.Time, time.Duration, Duration:
		if reflect.TypeOf(value) != t {
			return true, cannot(n, v)
		}
		v.Set(reflect.ValueOf(value))
	default:
		return true, fmt.Errorf("serde: %T has no Go type", value)
	}
	return true, nil
}

// intoUUID reads a uuid of either form into either of its Go types, text or 16
// bytes.
func (d *decoder) intoUUID(n *node, v reflect.Value) (bool, error) {
	array := v.Kind() == reflect.Array && v.Len() == 16 &&
		v.Type().Elem().Kind() == reflect.Uint8
	switch {
	case n.kind == avro.Fixed && v.Kind() == reflect.String:
		b, err := d.raw(int64(n.size))
		if err != nil {
			return true, err
		}
		v.SetString(formatUUID(b))
		return true, nil
	case n.kind == avro.String && array:
		text, err := d.sized()
		if err != nil {
			return true, err
		}
		id, err := parseUUID(string(text))
		if err != nil {
			return true, err
		}
		reflect.Copy(v, reflect.ValueOf(id))
		return true, nil
	}
	return false, nil
}

func (d *decoder) intoArray(n *node, v reflect.Value) error {
	if v.Kind() != reflect.Slice {
		return cannot(n, v)
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	return d.items(func(i int) error {
		if i == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		return under(itemStep(i), d.into(n.elem, v.Index(i)))
	})
}

func (d *decoder) intoMap(n *node, v reflect.Value) error {
	if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
		return cannot(n, v)
	}
	v.Set(reflect.MakeMap(v.Type()))
	return d.items(func(int) error {
		key, err := d.sized()
		if err != nil {
			return err
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if err := d.into(n.elem, item); err != nil {
			return under(keyStep(string(key)), err)
		}
		v.SetMapIndex(reflect.ValueOf(string(key)).Convert(v.Type().Key()), item)
		return nil
	})
}

func (d *decoder) intoRecord(n *node, v reflect.Value) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	switch {
	case v.Kind() == reflect.Struct:
		positions := fieldsOf(v.Type())
		for i := range n.fields {
			f := &n.fields[i]
			target := reflect.New(anyType).Elem() // of a field that the struct lacks
			if at, ok := positions[f.name]; ok {
				if target = reach(v, at); !target.IsValid() {
					return under(fieldStep(f.name), unfit("it is in an embedded pointer to an "+
						"unexported struct"))
				}
			}
			if err := d.into(f.node, target); err != nil {
				return under(fieldStep(f.name), err)
			}
		}
		return nil
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range n.fields {
			f := &n.fields[i]
			if err := d.name(f); err != nil {
				return err
			}
			item := reflect.New(v.Type().Elem()).Elem()
			if err := d.into(f.node, item); err != nil {
				return under(fieldStep(f.name), err)
			}
			v.SetMapIndex(reflect.ValueOf(f.name).Convert(v.Type().Key()), item)
		}
		return nil
	}
	return cannot(n, v)
}

var (
	anyType         = reflect.TypeFor[any]()
	marshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// reach returns a field by its path, and makes the embedded structs on the way
// that are nil.
func reach(v reflect.Value, path []int) reflect.Value {
	for _, i := range path[:len(path)-1] {
		v = v.Field(i)
		if v.Kind() != reflect.Pointer {
			continue
		}
		if v.IsNil() {
			if !v.CanSet() {
				return reflect.Value{}
			}
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	return v.Field(path[len(path)-1])
}
