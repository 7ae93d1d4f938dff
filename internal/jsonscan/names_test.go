package jsonscan_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/jsonscan"
)

// whole reads a text that is one value, with a scanner that may have read others.
func whole(s *jsonscan.Scanner, text string) error {
	s.Reset([]byte(text))
	if _, err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}

// objectOf writes an object of a number of names, whose values are objects too as
// far as depth goes. Some names have escapes. One in a number of texts has a name
// twice, or breaks off within.
func objectOf(random *rand.Rand, count, depth int) string {
	var text strings.Builder
	text.WriteByte('{')
	for i := range count {
		if i > 0 {
			text.WriteByte(',')
		}
		name := "n" + strconv.Itoa(i)
		switch random.IntN(40) {
		case 0:
			name = "n" + strconv.Itoa(random.IntN(count))
		case 1, 2, 3, 4:
			name = `\u006e` + name[1:] // the same name
		}
		value := "1"
		if depth > 0 && random.IntN(8) == 0 {
			value = objectOf(random, 1+random.IntN(count), depth-1)
		}
		if random.IntN(200) == 0 {
			return text.String() + `"` + name // within a name
		}
		fmt.Fprintf(&text, `"%s":%s`, name, value)
	}
	return text.String() + "}"
}

// A scanner that has read texts before, good ones and bad ones, says of the next what
// a new one says: no name of another text or object counts, and none is forgotten.
func TestNamesOfOtherTextsDoNotCount(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	used := jsonscan.New(nil)
	good, twice, broken := 0, 0, 0
	for range 500 {
		text := objectOf(random, 1+random.IntN(60), 3)
		err := whole(used, text)
		want := jsonscan.Valid([]byte(text))
		require.Equal(t, want, err, text)
		switch {
		case err == nil:
			good++
		case strings.Contains(err.Error(), "twice"):
			twice++
		default:
			broken++
		}
	}
	assert.Greater(t, min(good, twice, broken), 20, "%d, %d, %d", good, twice, broken)
}

// What is wrong with each text depends on what the scanner kept of the one before.
func TestOneTextAfterAnother(t *testing.T) {
	many := func(from, to int, more string) string {
		var text strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&text, `"%d":0,`, i)
		}
		return "{" + text.String() + more + "}"
	}
	for name, texts := range map[string][]string{
		"the same":        {`{"a":1}`, `{"a":1}`},
		"after a broken":  {`{"a":{"b":[{"c":`, `{"c":1,"b":2,"a":3}`},
		"siblings":        {`[{"a":1},{"a":1},{"a":{"a":{"a":1}}},{"a":1}]`},
		"outer and inner": {`{"a":{"b":1},"b":{"a":1}}`},
		"a table, then a table": {
			many(0, 100, `"x":1`), many(0, 100, `"x":1`), many(50, 150, `"x":1`),
		},
		"a table within a table": {
			many(0, 40, `"x":`+many(0, 40, `"y":1`)+`,"y":`+many(0, 40, `"x":1`)),
		},
		"a table after a broken one": {many(0, 100, `"x"`), many(0, 100, `"x":1`)},
		"few after many":             {many(0, 100, `"x":1`), `{"x":1,"1":2}`},
		"escapes":                    {`{"\u0061":1,"\u0062":1}`, `{"\u0062":1,"\u0061":1}`},
		"escapes within": {
			`{"\u0061":{"\u0062":1,"\u0063":2},"\u0062":{"\u0061":1},"\u0063":1}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := jsonscan.New(nil)
			for _, text := range texts {
				assert.Equal(t, jsonscan.Valid([]byte(text)), whole(s, text), text)
			}
		})
	}
	for text, name := range map[string]string{
		`{"\u0061":{"\u0062":1},"a":2}`:                   "a",
		`{"a":1,"\u0061":2}`:                              "a",
		`{"a":{"b":1},"c":{"b":2},"a":3}`:                 "a",
		many(0, 100, `"x":{"y":1},"\u0037":1`):            "7",
		many(0, 40, `"x":`+many(0, 40, `"8":1`)):          "8",
		many(0, 40, `"x":`+many(0, 40, `"y":1`)+`,"9":1`): "9",
	} {
		s := jsonscan.New(nil)
		require.NoError(t, whole(s, many(0, 60, `"x":1`)))
		assert.ErrorContains(t, whole(s, text), fmt.Sprintf("the name %q occurs twice", name), text)
	}
}

// The memory is used again, and holds on to no text.
func TestMemoryForNamesIsUsedAgain(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	text := "{}"
	for len(text) < 1000 || jsonscan.Valid([]byte(text)) != nil {
		text = objectOf(random, 40, 2)
	}
	s := jsonscan.New(nil)
	require.NoError(t, whole(s, text))
	if source := []byte(text); !testing.Short() { // under the race detector make allocates
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			s.Reset(source)
			_, _ = s.Skip()
		}))
	}
	for name, text := range map[string]string{"whole": text, "broken": text[:len(text)-1]} {
		source := []byte(text)
		s.Reset(source)
		_, err := s.Skip()
		assert.Equal(t, name == "broken", err != nil)
		held := weak.Make(&source[0])
		source = nil
		s.Reset(nil)
		runtime.GC()
		assert.Nil(t, held.Value(), "the %s text is held on to", name)
		runtime.KeepAlive(s)
	}
}

// FuzzReset reads two texts with one scanner, and the second with one of its own.
func FuzzReset(f *testing.F) {
	f.Add([]byte(`{"a":{"\u0062":1}`), []byte(`{"b":1,"a":{"b":2}}`))
	f.Add([]byte(`{"a":1,"a"`), []byte(`[{"a":1},{"a":1}]`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := jsonscan.New(nil)
		_ = whole(s, string(first))
		got, want := whole(s, string(second)), jsonscan.Valid(second)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q after %q: %v, and alone %v", second, first, got, want)
		}
	})
}
