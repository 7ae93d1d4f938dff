package avro

import (
	"math"
	"strconv"
	"strings"
)

// numberBytes bounds a number's text, as Jackson does.
const numberBytes = 1000

// number reads a JSON number and keeps it as Jackson does: an integer in the
// least of 32 bits, 64 bits and any, everything else as a double.
func (d *decoder) number() (value, error) {
	start := d.at
	d.take('-')
	digits := d.digits()
	switch {
	case digits == 0:
		return value{}, d.fail("a digit belongs after the minus sign")
	case digits > 1 && d.text[d.at-digits] == '0':
		return value{}, d.fail("a number has no leading zeros")
	}
	whole := true
	if d.take('.') {
		whole = false
		if d.digits() == 0 {
			return value{}, d.fail("a digit belongs after the decimal point")
		}
	}
	if d.take('e') || d.take('E') {
		whole = false
		if !d.take('+') {
			d.take('-')
		}
		if d.digits() == 0 {
			return value{}, d.fail("a digit belongs in the exponent")
		}
	}
	text := d.text[start:d.at]
	if d.at < len(d.text) && wordByte(d.text[d.at]) {
		return value{}, d.fail("unexpected %q in a number", d.text[d.at])
	}
	if len(text) > numberBytes {
		return value{}, d.fail("a number has at most %d characters", numberBytes)
	}
	if !whole {
		f, _ := strconv.ParseFloat(text, 64) // out of range is infinite
		return doubleValue(isDouble, f), nil
	}
	return integerValue(text), nil
}

func (d *decoder) digits() int {
	start := d.at
	for d.at < len(d.text) && d.text[d.at] >= '0' && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at - start
}

func integerValue(text string) value {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return value{kind: isBig, text: text}
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return value{kind: isInt, bits: uint64(n)}
	}
	return value{kind: isLong, bits: uint64(n)}
}

// appendDouble writes a number as Java's Double.toString does (Float.toString
// for 32 bits): the fewest digits that mean it, at least one after the point,
// and an exponent below 10^-3 and from 10^7. Jackson quotes what is not finite.
func appendDouble(b []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	case f == 0 && math.Signbit(f):
		return append(b, "-0.0"...)
	case f == 0:
		return append(b, "0.0"...)
	}
	if abs := math.Abs(f); abs >= 1e-3 && abs < 1e7 {
		start := len(b)
		b = strconv.AppendFloat(b, f, 'f', -1, bits)
		if strings.IndexByte(string(b[start:]), '.') < 0 {
			b = append(b, ".0"...)
		}
		return b
	}
	text := strconv.FormatFloat(f, 'e', -1, bits)
	if strings.IndexByte(text, '.') < 0 {
		text = twoDigits(f, bits, text)
	}
	mantissa, exponent, _ := strings.Cut(text, "e")
	b = append(b, mantissa...)
	b = append(b, 'E')
	sign := ""
	if exponent[0] == '-' {
		sign = "-"
	}
	b = append(b, sign...)
	return append(b, strings.TrimLeft(exponent[1:], "0")...)
}

// twoDigits gives a one-digit mantissa its second digit: of the two-digit
// decimals that mean the number, Java takes the closest.
func twoDigits(f float64, bits int, short string) string {
	text := strconv.FormatFloat(f, 'e', 1, bits)
	if back, err := strconv.ParseFloat(text, bits); err == nil && back == f {
		return text
	}
	return strings.Replace(short, "e", ".0e", 1)
}

// javaDouble reads a text as Java's Double.parseDouble does.
func javaDouble(text string) (float64, bool) {
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	unsigned := strings.TrimLeft(text, "+-")
	if len(text)-len(unsigned) > 1 || unsigned == "" || strings.ContainsRune(text, '_') {
		return 0, false
	}
	negative := text[0] == '-'
	switch unsigned {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(map[bool]int{true: -1, false: 1}[negative]), true
	}
	if c := unsigned[0]; c != '.' && (c < '0' || c > '9') {
		return 0, false // strconv knows more names than Java
	}
	hex := strings.HasPrefix(unsigned, "0x") || strings.HasPrefix(unsigned, "0X")
	if last := text[len(text)-1]; strings.IndexByte("fFdD", last) >= 0 &&
		(!hex || strings.ContainsAny(text, "pP")) {
		text = text[:len(text)-1]
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}
