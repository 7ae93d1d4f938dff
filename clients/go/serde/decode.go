package serde

import (
	"encoding/binary"
	"math"

	"github.com/sluicelog/sluice/internal/avro"
)

// decoder reads binary data that was validated. It checks again what would make
// it panic, and nothing else.
type decoder struct {
	data   []byte
	at     int
	values int // left
	depth  int // left
}

func (d *decoder) fail(problem string) error {
	return payload(&avro.DataError{Offset: d.at, Problem: problem})
}

// spend counts a value.
func (d *decoder) spend() error {
	if d.values--; d.values < 0 {
		return d.fail("too many values")
	}
	return nil
}

// name counts a field's name.
func (d *decoder) name(f *field) error {
	if d.values -= f.extra; d.values < 0 {
		return d.fail("too many values under long names")
	}
	return nil
}

// enter goes a level deeper.
func (d *decoder) enter() error {
	if d.depth--; d.depth < 0 {
		return d.fail("values are nested too deep")
	}
	return nil
}

func (d *decoder) leave() { d.depth++ }

func (d *decoder) long() (int64, error) {
	n, size := binary.Uvarint(d.data[d.at:])
	if size <= 0 {
		return 0, d.fail("the data ends inside an integer, or it has more than 64 bits")
	}
	d.at += size
	return int64(n>>1) ^ -int64(n&1), nil
}

// raw reads n bytes, which alias the data.
func (d *decoder) raw(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(d.data)-d.at) {
		return nil, d.fail("the data ends")
	}
	b := d.data[d.at : d.at+int(n)]
	d.at += int(n)
	return b, nil
}

// sized reads a length and as many bytes, which alias the data.
func (d *decoder) sized() ([]byte, error) {
	n, err := d.long()
	if err != nil {
		return nil, err
	}
	return d.raw(n)
}

// content reads what bytes or a fixed hold; it aliases the data.
func (d *decoder) content(n *node) ([]byte, error) {
	if n.kind == avro.Fixed {
		return d.raw(int64(n.size))
	}
	return d.sized()
}

func (d *decoder) boolean() (bool, error) {
	b, err := d.raw(1)
	return err == nil && b[0] == 1, err
}

func (d *decoder) float() (float32, error) {
	b, err := d.raw(4)
	if err != nil {
		return 0, err
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b)), nil
}

func (d *decoder) double() (float64, error) {
	b, err := d.raw(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

func (d *decoder) symbol(n *node) (string, error) {
	i, err := d.long()
	if err != nil {
		return "", err
	}
	if i < 0 || i >= int64(len(n.symbols)) {
		return "", d.fail("no such symbol")
	}
	return n.symbols[i], nil
}

// branch reads which branch of a union follows.
func (d *decoder) branch(n *node) (*node, error) {
	i, err := d.long()
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= int64(len(n.branches)) {
		return nil, d.fail("no such branch")
	}
	return n.branches[i], nil
}

// block reads how many items follow; 0 is the end of an array or a map.
func (d *decoder) block() (int, error) {
	count, err := d.long()
	if err != nil || count >= 0 {
		return d.bounded(count), err
	}
	_, err = d.long() // the block's size in bytes
	return d.bounded(-count), err
}

// bounded returns a count that a loop may run to: spend ends it sooner.
func (d *decoder) bounded(count int64) int {
	return int(min(uint64(count), uint64(d.values)+1))
}

// items calls read for every item of an array, or every entry of a map, with
// its position.
func (d *decoder) items(read func(i int) error) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	next := 0
	for {
		count, err := d.block()
		if err != nil || count == 0 {
			return err
		}
		for range count {
			if err := read(next); err != nil {
				return err
			}
			next++
		}
	}
}
