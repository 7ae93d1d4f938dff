package avro

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// repeat returns n texts made by format from their number, joined by commas.
func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ReplaceAll(format, "#", strconv.Itoa(i)))
	}
	return b.String()
}

// nested returns schemas that hold one another, the innermost an int.
func nested(n int, open, shut string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(open, "#", strconv.Itoa(i)))
	}
	return b.String() + `"int"` + strings.Repeat(shut, n)
}

const (
	openRecord = `{"type":"record","name":"R#","fields":[{"name":"f","type":`
	shutRecord = `}]}`
)

// hostile are schemas made to cost more than they should.
var hostile = map[string]struct {
	text string
	// bad tells that the schema is refused as too complex.
	bad bool
}{
	"128 records deep":       {nested(127, openRecord, shutRecord), false},
	"129 records deep":       {nested(128, openRecord, shutRecord), true},
	"46 KB deep":             {nested(700, openRecord, shutRecord), true},
	"10,000 arrays deep":     {nested(10_000, `{"type":"array","items":`, `}`), true},
	"10,000 brackets":        {strings.Repeat("[", 10_000), true},
	"10,000 braces":          {strings.Repeat(`{"a":`, 10_000), true},
	"deep property":          {`{"type":"int","p":` + strings.Repeat("[", 1_000_000), true},
	"1 MiB and a byte":       {`"` + strings.Repeat("a", 1<<20-1) + `"`, true},
	"10,000 fields":          {record(repeat(10_000, `{"name":"f#","type":"int"}`)), false},
	"10,001 fields":          {record(repeat(10_001, `{"name":"f#","type":"int"}`)), true},
	"5,000 nullable fields":  {nullable(5_000), false},
	"10,000 symbols":         {enumOf(repeat(10_000, `"S#"`)), false},
	"1,001 branches":         {unionOf(1_001, `{"type":"fixed","name":"F#","size":1}`), true},
	"500,000 values":         {`{"type":"int","p":[` + strings.Repeat("1,", 500_000) + `1]}`, true},
	"forward chain":          {forward(500), true},
	"exponential default":    {doubling(40, `{}`), true},
	"exponential definition": {doubling(40, ``), false},
}

func enumOf(symbols string) string {
	return `{"type":"enum","name":"E","symbols":[` + symbols + `]}`
}

func unionOf(n int, format string) string { return `[` + repeat(n, format) + `]` }

func nullable(n int) string {
	return record(repeat(n, `{"name":"f#","type":["null","string"],"default":null}`))
}

// forward returns a union of records of which each uses the next.
func forward(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"type":"record","name":"R%d","fields":[`+
			`{"name":"f","type":"R%d"}]}`, i, (i+1)%n))
	}
	return `[` + strings.Join(all, ",") + `]`
}

// doubling returns records of which each has the one before it twice, so that
// a default may mean 2^n values.
func doubling(n int, def string) string {
	if def != "" {
		def = `,"default":` + def
	}
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"type":"record","name":"D%d","fields":[`+
			`{"name":"a","type":%[2]s%[3]s},{"name":"b","type":%[2]s%[3]s}]}`,
			i, inner(i), defaultOf(i, def)))
	}
	return `[` + strings.Join(all, ",") + `]`
}

func inner(i int) string {
	if i == 0 {
		return `"int"`
	}
	return fmt.Sprintf(`"D%d"`, i-1)
}

func defaultOf(i int, def string) string {
	if i == 0 && def != "" {
		return `,"default":1`
	}
	return def
}

func TestHostileSchemasAreAnsweredOrRefused(t *testing.T) {
	for name, c := range hostile {
		s, err := Parse(c.text, Options{})
		if c.bad != errors.Is(err, ErrTooComplex) || err != nil && !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			if len(err.Error()) > 3000 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
			continue
		}
		if reasons, err := Compatible(s, s); err != nil || len(reasons) > 0 {
			t.Errorf("%s: with itself: %v, %v", name, reasons, err)
		}
		again, err := Parse(s.Canonical(), Options{})
		if err != nil || again.Canonical() != s.Canonical() {
			t.Errorf("%s: canonical text does not stand: %v", name, err)
		}
		if _, err := s.Normalize(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pairs are schemas whose comparison is made to cost more than it should.
var pairs = map[string]struct {
	reader, writer string
	reasons        int // -1: refused
}{
	"5,000 nullable fields gone": {
		record(repeat(5_000, `{"name":"f#","type":["null","int"]}`)),
		record(), 5_000,
	},
	"5,000 nullable fields differ": {
		nullable(5_000),
		record(repeat(5_000, `{"name":"f#","type":["null","int"]}`)), 5_000,
	},
	"10,000 symbols differ": {enumOf(repeat(10_000, `"S#"`)), enumOf(repeat(10_000, `"T#"`)), 1},
	"2^40 reasons": {
		doubling(40, ``), strings.ReplaceAll(doubling(40, ``), `"int"`, `"string"`),
		40,
	},
	"1,000 records by 1,000": {
		unionOf(1_000, `{"type":"record","name":"R#","fields":[{"name":"f","type":"int"}]}`),
		unionOf(1_000, `{"type":"record","name":"W#","fields":[{"name":"f","type":"int"}]}`),
		-1,
	},
	"cycles of 53 by 59": {cycle(53), cycle(59), 1},
}

// cycle returns n records of which each holds the next, and the last the
// first.
func cycle(n int) string {
	text := `"R0"`
	for i := n - 1; i >= 0; i-- {
		text = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[`+
			`{"name":"f","type":["null",%s]}]}`, i, text)
	}
	return text
}

func TestHostilePairsAreAnsweredOrRefused(t *testing.T) {
	for name, c := range pairs {
		reasons, err := Compatible(strict(t, c.reader), strict(t, c.writer))
		switch {
		case c.reasons == -1:
			if !errors.Is(err, ErrTooComplex) {
				t.Errorf("%s: %d reasons, %v", name, len(reasons), err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.reasons >= 0 && len(reasons) != c.reasons:
			t.Errorf("%s: %d reasons", name, len(reasons))
		}
	}
}

func TestReasonsAreBounded(t *testing.T) {
	a := lenient(t, `{"type":"record","name":"R","fields":[{"name":"f","type":`+
		doubled(30, "int")+`}]}`)
	b := lenient(t, `{"type":"record","name":"R","fields":[{"name":"f","type":`+
		doubled(30, "string")+`}]}`)
	reasons, err := Compatible(a, b)
	if err != nil || len(reasons) != reasonCount {
		t.Errorf("%d reasons, %v", len(reasons), err)
	}
}

// doubled returns n records in one another, each held twice by the next.
func doubled(n int, leaf string) string {
	text := `"` + leaf + `"`
	for i := range n {
		again := text
		if i > 0 {
			again = fmt.Sprintf(`"D%d"`, i-1)
		}
		text = fmt.Sprintf(`{"type":"record","name":"D%d","fields":[{"name":"a","type":%s},`+
			`{"name":"b","type":%s}]}`, i, text, again)
	}
	return text
}

func TestReferencesAreBounded(t *testing.T) {
	many := make([]string, 1_001)
	for i := range many {
		many[i] = `"int"`
	}
	if _, err := Parse(`"int"`, Options{References: many}); !errors.Is(err, ErrTooComplex) {
		t.Error(err)
	}
	big := `{"type":"int","p":"` + strings.Repeat("x", 900<<10) + `"}`
	refs := []string{big, big}
	if _, err := Parse(`"int"`, Options{References: refs}); !errors.Is(err, ErrTooComplex) {
		t.Error(err)
	}
	// A chain of references is as deep as it is long, and costs no more.
	var chain []string
	for i := range 1_000 {
		chain = append(chain, fmt.Sprintf(`{"type":"record","name":"R%d","fields":[`+
			`{"name":"a","type":%[2]s},{"name":"b","type":%[2]s}]}`, i,
			strings.Replace(inner(i), "D", "R", 1)))
	}
	s := mustParse(t, `{"type":"array","items":"R999"}`, Options{References: chain})
	if got := s.Canonical(); got != `{"type":"array","items":"R999"}` {
		t.Error(got)
	}
	if reasons, err := Compatible(s, s); err != nil || len(reasons) > 0 {
		t.Error(len(reasons), err)
	}
	if len(s.Resolved()) < 50_000 || len(s.ParsingForm()) < 40_000 {
		t.Error(len(s.Resolved()))
	}
}

// TestSharedPartsOfReferencesAreWalkedOnce would take minutes if every text
// walked the types of those before it.
func TestSharedPartsOfReferencesAreWalkedOnce(t *testing.T) {
	parts := record(repeat(5_000,
		`{"name":"f#","type":{"type":"record","name":"P#","fields":[]}}`))
	refs := []string{parts}
	for i := range 900 {
		refs = append(refs, fmt.Sprintf(`{"type":"record","name":"U%d","fields":[`+
			`{"name":"a","type":"R"},{"name":"b","type":"P7"},`+
			`{"name":"c","type":["null","U%[1]d"]},`+
			`{"name":"d","type":%[2]s}]}`, i, strings.Replace(inner(i), "D", "U", 1)))
	}
	s := mustParse(t, `{"type":"map","values":"U899"}`, Options{References: refs})
	if name, ok := s.Endless(); ok {
		t.Error(name)
	}
	if reasons, err := Compatible(s, s); err != nil || len(reasons) > 0 {
		t.Error(len(reasons), err)
	}
}
