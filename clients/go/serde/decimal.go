package serde

import (
	"math/big"
	"reflect"
	"slices"

	"github.com/sluicelog/sluice/internal/avro"
)

// decimalDigitsMax bounds the precision that decimals are computed with: a
// schema may promise two billion digits.
const decimalDigitsMax = 10_000

func (n *node) digits() int { return min(n.logical.Precision, decimalDigitsMax) }

// power returns 10 to a power.
func power(exponent int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exponent)), nil)
}

// checkDigits refuses an unscaled value with more digits than the precision.
func (n *node) checkDigits(unscaled *big.Int) error {
	// A digit is 3.32 bits: what is far too long is never written out.
	if unscaled.BitLen() <= n.digits()*4 && unscaled.CmpAbs(power(n.digits())) < 0 {
		return nil
	}
	return unfit("the decimal has more than %d digits (precision %d, scale %d)",
		n.digits(), n.logical.Precision, n.logical.Scale)
}

// decimal writes a decimal number: the unscaled integer in two's complement,
// big-endian (Avro specification, "Decimal").
func (e *encoder) decimal(n *node, v reflect.Value) error {
	var number *big.Rat
	switch {
	case v.Type() == ratType:
		number = addressed(v).Interface().(*big.Rat)
	case v.Type() == bigIntType:
		number = new(big.Rat).SetInt(addressed(v).Interface().(*big.Int))
	case v.CanInt():
		number = new(big.Rat).SetInt64(v.Int())
	case v.CanUint():
		number = new(big.Rat).SetUint64(v.Uint())
	default:
		return unfit("%s cannot be a decimal; use a *big.Rat", clip(v.Type().String()))
	}
	if n.logical.Scale > decimalDigitsMax {
		return unfit("the scale %d is more than the %d that decimals are computed with",
			n.logical.Scale, decimalDigitsMax)
	}
	scaled := new(big.Int).Mul(number.Num(), power(n.logical.Scale))
	unscaled, rest := scaled.QuoRem(scaled, number.Denom(), new(big.Int))
	if rest.Sign() != 0 {
		return unfit("the decimal has more than the %d digits after the point that the scale "+
			"allows", n.logical.Scale)
	}
	if err := n.checkDigits(unscaled); err != nil {
		return err
	}
	b := twos(unscaled)
	if n.kind == avro.Bytes {
		return e.bytes(n, b)
	}
	if len(b) > n.size {
		return unfit("the decimal needs %d bytes, and %s has %d", len(b), n.label(), n.size)
	}
	sign := byte(0)
	if unscaled.Sign() < 0 {
		sign = 0xff
	}
	for range n.size - len(b) {
		e.buf = append(e.buf, sign)
	}
	e.buf = append(e.buf, b...)
	return nil
}

// addressed returns a pointer to v, or to a copy of it.
func addressed(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

// twos returns the shortest two's complement of an integer, big-endian, of one
// byte at least.
func twos(i *big.Int) []byte {
	if i.Sign() >= 0 {
		b := i.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = slices.Insert(b, 0, 0)
		}
		return b
	}
	// -i-1 has the inverted bits of i.
	b := new(big.Int).Not(i).Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		b = slices.Insert(b, 0, 0)
	}
	for at := range b {
		b[at] = ^b[at]
	}
	return b
}

// unscaledOf reads two's complement, big-endian; no bytes are 0.
func unscaledOf(b []byte) *big.Int {
	i := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		i.Sub(i, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return i
}

// decimalOf returns the number that the bytes of a decimal stand for.
func (n *node) decimalOf(b []byte) (*big.Rat, error) {
	unscaled := new(big.Int)
	for len(b) > 1 && (b[0] == 0 && b[1]&0x80 == 0 || b[0] == 0xff && b[1]&0x80 != 0) {
		b = b[1:] // padding
	}
	if len(b) <= decimalDigitsMax { // 2.4 digits to a byte
		unscaled = unscaledOf(b)
	}
	if len(b) > decimalDigitsMax || n.checkDigits(unscaled) != nil {
		return nil, unfit("a decimal of %d bytes has more than %d digits (precision %d, scale %d)",
			len(b), n.digits(), n.logical.Precision, n.logical.Scale)
	}
	if n.logical.Scale > decimalDigitsMax {
		return nil, unfit("the scale %d is more than the %d that decimals are computed with",
			n.logical.Scale, decimalDigitsMax)
	}
	return new(big.Rat).SetFrac(unscaled, power(n.logical.Scale)), nil
}
