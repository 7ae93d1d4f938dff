package serde

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/avro"
)

// Duration is a value of Avro's logical type duration. The parts do not mix: a
// month is 28 to 31 days, a day 23 to 25 hours.
type Duration struct {
	Months, Days, Milliseconds uint32
}

const secondsOfDay = 24 * 60 * 60

// clock says how a logical type counts time.
type clock struct {
	perSecond int64 // units in a second
	local     bool  // a clock reading anywhere, and not an instant
	span      bool  // since midnight
}

var clocks = map[string]clock{
	"time-millis":            {perSecond: 1e3, span: true},
	"time-micros":            {perSecond: 1e6, span: true},
	"timestamp-millis":       {perSecond: 1e3},
	"timestamp-micros":       {perSecond: 1e6},
	"timestamp-nanos":        {perSecond: 1e9},
	"local-timestamp-millis": {perSecond: 1e3, local: true},
	"local-timestamp-micros": {perSecond: 1e6, local: true},
	"local-timestamp-nanos":  {perSecond: 1e9, local: true},
}

// meaning writes a Go value of a logical type. Where it is a value of the type
// underneath, it is checked, and done is false.
func (e *encoder) meaning(n *node, v reflect.Value) (done bool, err error) {
	switch n.logical.Name {
	case "date":
		if v.Type() == timeType {
			return true, e.date(v.Interface().(time.Time))
		}
	case "decimal":
		return true, e.decimal(n, v)
	case "duration":
		if v.Type() == monthsType {
			d := v.Interface().(Duration)
			e.buf = binary.LittleEndian.AppendUint32(e.buf, d.Months)
			e.buf = binary.LittleEndian.AppendUint32(e.buf, d.Days)
			e.buf = binary.LittleEndian.AppendUint32(e.buf, d.Milliseconds)
			return true, nil
		}
	case "uuid":
		return e.uuid(n, v)
	}
	c, ok := clocks[n.logical.Name]
	if !ok {
		return false, nil
	}
	switch {
	case v.Type() == timeType && !c.span:
		i, ok := c.count(v.Interface().(time.Time))
		if !ok {
			return true, unfit("%v is out of range of %s", v.Interface(), n.label())
		}
		e.long(i)
		return true, nil
	case v.Type() == spanType && c.span:
		i := int64(v.Interface().(time.Duration)) / (int64(time.Second) / c.perSecond)
		if v.Int() < 0 {
			i = -1
		}
		if err := c.checkDay(i); err != nil {
			return true, unfit("%v is no time of day: it is from 0s to less than 24h",
				v.Interface())
		}
		e.long(i)
		return true, nil
	case v.Type() == spanType:
		return true, mismatch(n, v)
	case c.span && (v.CanInt() || v.CanUint()):
		i, err := integer(n, v)
		if err != nil {
			return true, err
		}
		return false, c.checkDay(i)
	}
	return false, nil
}

// date writes the day that a clock where t is set shows at t.
func (e *encoder) date(t time.Time) error {
	year, month, day := t.Date()
	days := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / secondsOfDay
	if days < math.MinInt32 || days > math.MaxInt32 {
		return unfit("the year %d is out of range of a date", year)
	}
	e.long(days)
	return nil
}

// checkDay refuses what is no time of day, in units of the clock.
func (c clock) checkDay(i int64) error {
	if end := secondsOfDay * c.perSecond; i < 0 || i >= end {
		return unfit("%d is no time of day: it is from 0 to %d", i, end-1)
	}
	return nil
}

// count returns the units from 1970 to t, rounded down; false if 64 bits do not
// hold them.
func (c clock) count(t time.Time) (int64, bool) {
	if c.local {
		year, month, day := t.Date()
		hour, minute, second := t.Clock()
		t = time.Date(year, month, day, hour, minute, second, t.Nanosecond(), time.UTC)
	}
	fraction := int64(t.Nanosecond()) / (1e9 / c.perSecond)
	// This may overflow and come back, as for the first of all milliseconds:
	// whether it did shows when the count is turned into a time again.
	i := t.Unix()*c.perSecond + fraction
	back := c.time(i)
	return i, back.Unix() == t.Unix() && int64(back.Nanosecond())/(1e9/c.perSecond) == fraction
}

// time returns the time of a count, in UTC.
func (c clock) time(i int64) time.Time {
	return time.Unix(i/c.perSecond, i%c.perSecond*(1e9/c.perSecond)).UTC()
}

// span returns the time of day of a count.
func (c clock) spanOf(i int64) (time.Duration, error) {
	if err := c.checkDay(i); err != nil {
		return 0, err
	}
	return time.Duration(i * (1e9 / c.perSecond)), nil
}

// dateOf returns midnight, UTC, of the day with a number.
func dateOf(days int64) time.Time { return time.Unix(days*secondsOfDay, 0).UTC() }

// uuidTextBytes is the length of a uuid as text (RFC 9562, section 4).
const uuidTextBytes = 36

// parseUUID reads a uuid, in upper or lower case.
func parseUUID(text string) (id [16]byte, err error) {
	ok := len(text) == uuidTextBytes
	for _, at := range []int{8, 13, 18, 23} {
		ok = ok && text[at] == '-'
	}
	if ok {
		var n int
		n, err = hex.Decode(id[:], []byte(strings.ReplaceAll(text, "-", "")))
		ok = err == nil && n == len(id)
	}
	if !ok {
		return id, unfit("%q is no uuid: it is 32 hexadecimal digits in groups of "+
			"8-4-4-4-12", clip(text))
	}
	return id, nil
}

func formatUUID(id []byte) string {
	digits := hex.EncodeToString(id)
	return strings.Join([]string{
		digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:],
	}, "-")
}

// uuid checks the text of a uuid, or writes it where 16 bytes stand for it.
// Arrays of 16 bytes are taken for either.
func (e *encoder) uuid(n *node, v reflect.Value) (done bool, err error) {
	b, raw := bytesOf(v)
	if raw && len(b) == 16 {
		if n.kind == avro.Fixed {
			return false, nil
		}
		return true, e.text(n, formatUUID(b))
	}
	text, err := textOf(n, v)
	if err != nil {
		return true, err
	}
	id, err := parseUUID(text)
	switch {
	case err != nil:
		return true, err
	case n.kind == avro.Fixed:
		e.buf = append(e.buf, id[:]...)
		return true, nil
	}
	return true, e.text(n, text)
}
