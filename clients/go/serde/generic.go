package serde

import (
	"encoding/binary"

	"github.com/sluicelog/sluice/internal/avro"
)

// generic reads a value as the Go type that Codec lists for it.
func (d *decoder) generic(n *node) (any, error) {
	if err := d.spend(); err != nil {
		return nil, err
	}
	if n.logical.Name != "" {
		return d.genericMeaning(n)
	}
	switch n.kind {
	case avro.Null:
		return nil, nil
	case avro.Boolean:
		return d.boolean()
	case avro.Int:
		i, err := d.long()
		return int32(i), err
	case avro.Long:
		return d.long()
	case avro.Float:
		return d.float()
	case avro.Double:
		return d.double()
	case avro.String:
		b, err := d.sized()
		return string(b), err
	case avro.Bytes, avro.Fixed:
		b, err := d.content(n)
		return append([]byte{}, b...), err
	case avro.Enum:
		return d.symbol(n)
	case avro.Union:
		return d.genericUnion(n)
	}
	return d.genericParts(n)
}

func (d *decoder) genericUnion(n *node) (any, error) {
	b, err := d.branch(n)
	if err != nil {
		return nil, err
	}
	v, err := d.generic(b)
	if err != nil || n.bare || b.kind == avro.Null {
		return v, err
	}
	return Union{Branch: b.name, Value: v}, nil
}

func (d *decoder) genericParts(n *node) (any, error) {
	switch n.kind {
	case avro.Array:
		all := []any{}
		err := d.items(func(i int) error {
			v, err := d.generic(n.elem)
			all = append(all, v)
			return under(itemStep(i), err)
		})
		return all, err
	case avro.Map:
		all := map[string]any{}
		err := d.items(func(int) error {
			key, err := d.sized()
			if err != nil {
				return err
			}
			if all[string(key)], err = d.generic(n.elem); err != nil {
				return under(keyStep(string(key)), err)
			}
			return nil
		})
		return all, err
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	all := make(map[string]any, min(len(n.fields), d.values))
	for i := range n.fields {
		f := &n.fields[i]
		if err := d.name(f); err != nil {
			return nil, err
		}
		v, err := d.generic(f.node)
		if err != nil {
			return nil, under(fieldStep(f.name), err)
		}
		all[f.name] = v
	}
	return all, nil
}

// genericMeaning reads a value of a logical type.
func (d *decoder) genericMeaning(n *node) (any, error) {
	switch n.kind {
	case avro.Int, avro.Long:
		i, err := d.long()
		if err != nil {
			return nil, err
		}
		if n.logical.Name == "date" {
			return dateOf(i), nil
		}
		c := clocks[n.logical.Name]
		if c.span {
			return c.spanOf(i)
		}
		return c.time(i), nil
	case avro.String:
		b, err := d.sized()
		return string(b), err
	}
	b, err := d.content(n)
	if err != nil {
		return nil, err
	}
	switch n.logical.Name {
	case "decimal":
		return n.decimalOf(b)
	case "duration":
		return durationOf(b), nil
	case "uuid":
		return formatUUID(b), nil
	}
	return append([]byte{}, b...), nil
}

func durationOf(b []byte) Duration {
	return Duration{
		Months:       binary.LittleEndian.Uint32(b),
		Days:         binary.LittleEndian.Uint32(b[4:]),
		Milliseconds: binary.LittleEndian.Uint32(b[8:]),
	}
}
