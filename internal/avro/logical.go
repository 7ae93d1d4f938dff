package avro

import "math"

// Logical is a logical type: what the values of its Type mean.
type Logical struct {
	// Name is the name in the schema, such as "timestamp-millis"; empty if
	// there is no valid logical type.
	Name string
	// Precision and Scale are those of a decimal, in decimal digits.
	Precision, Scale int
}

// backing says which kinds a logical type stands on; decimal, uuid and
// duration have more rules.
var backing = map[string][]Kind{
	"decimal":                {Bytes, Fixed},
	"big-decimal":            {Bytes},
	"uuid":                   {String, Fixed},
	"duration":               {Fixed},
	"date":                   {Int},
	"time-millis":            {Int},
	"time-micros":            {Long},
	"timestamp-millis":       {Long},
	"timestamp-micros":       {Long},
	"timestamp-nanos":        {Long},
	"local-timestamp-millis": {Long},
	"local-timestamp-micros": {Long},
	"local-timestamp-nanos":  {Long},
}

// logicalOf returns the logical type that a type's attributes declare. An
// unknown or misplaced one is no error: it is ignored (Avro 1.12
// specification, "Logical Types").
func logicalOf(t *Type) *Logical {
	if len(t.props) == 0 {
		return nil
	}
	name := ""
	if v := propOf(t.props, "logicalType"); v != nil && v.kind == isText {
		name = v.text
	}
	fits := false
	for _, k := range backing[name] {
		fits = fits || k == t.kind
	}
	switch {
	case !fits, name == "uuid" && t.kind == Fixed && t.size != 16,
		name == "duration" && t.size != 12:
		return nil
	case name == "decimal":
		return decimalOf(t)
	}
	return &Logical{Name: name}
}

func decimalOf(t *Type) *Logical {
	l := Logical{Name: "decimal"}
	precision, scale := propOf(t.props, "precision"), propOf(t.props, "scale")
	if precision == nil || precision.kind != isInt || scale != nil && scale.kind != isInt {
		return nil
	}
	l.Precision = int(precision.integer())
	if scale != nil {
		l.Scale = int(scale.integer())
	}
	most := math.MaxInt32
	if t.kind == Fixed {
		most = int(math.Floor(math.Log10(2) * float64(8*t.size-1)))
	}
	if l.Precision <= 0 || l.Precision > most || l.Scale < 0 || l.Scale > l.Precision {
		return nil
	}
	return &l
}

func propOf(props []member, key string) *value {
	for i := range props {
		if props[i].key == key {
			return &props[i].value
		}
	}
	return nil
}
