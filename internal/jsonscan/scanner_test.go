package jsonscan_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/jsonscan"
)

func TestWhatIsRefused(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"nothing":              {"", "the text ends where a value is expected"},
		"byte order mark":      {"\ufeff{}", `invalid character '\ufeff'`},
		"after the value":      {`{} {}`, `invalid character '{' after the value`},
		"name twice":           {`{"a":1,"b":{"a":2},"a":3}`, `the name "a" occurs twice`},
		"escaped name twice":   {`{"a":1,"\u0061":3}`, `the name "a" occurs twice`},
		"invalid UTF-8":        {"\"a\xffb\"", "invalid UTF-8 (0xff)"},
		"overlong UTF-8":       {"\"\xc0\x80\"", "invalid UTF-8"},
		"surrogate in UTF-8":   {"\"\xed\xa0\x80\"", "invalid UTF-8"},
		"high surrogate alone": {`"\ud83d"`, "a lone surrogate"},
		"low surrogate alone":  {`"\ude00"`, "a lone surrogate"},
		"surrogates swapped":   {`"\ude00\ud83d"`, "a lone surrogate"},
		"high, then a letter":  {`"\ud83d\u0061"`, "a lone surrogate"},
		"control character":    {"\"a\nb\"", "the control character 0x0a"},
		"unknown escape":       {`"\x"`, "invalid escape"},
		"short escape":         {`"\u12"`, "four hexadecimal digits"},
		"open string":          {`"abc`, "ends within a string"},
		"open escape":          {`"abc\`, "ends within a string"},
		"open object":          {`{"a":1`, `ends before '}'`},
		"open array":           {`[1`, `ends before ']'`},
		"comma too many":       {`[1,]`, `invalid character ']' where a value is expected`},
		"comma in an object":   {`{"a":1,}`, `invalid character '}' where a string is expected`},
		"comma missing":        {`[1 2]`, `invalid character '2' where ',' or ']'`},
		"leading comma":        {`[,1]`, `invalid character ','`},
		"colon missing":        {`{"a" 1}`, "no ':' after a name"},
		"name unquoted":        {`{a:1}`, "where a string is expected"},
		"single quotes":        {`{'a':1}`, "where a string is expected"},
		"comment":              {`{} // no`, "after the value"},
		"literal":              {`nul`, "invalid literal"},
		"NaN":                  {`NaN`, "invalid character 'N'"},
		"leading zero":         {`01`, "invalid number"},
		"plus":                 {`+1`, "invalid character '+'"},
		"bare minus":           {`-`, "invalid number"},
		"bare point":           {`1.`, "no digit after the point"},
		"bare exponent":        {`1e+`, "no digit in the exponent"},
		"too deep":             {strings.Repeat("[", 10_000), "nested deeper than 64 levels"},
		"too deep objects":     {strings.Repeat(`{"a":`, 65), "nested deeper than 64 levels"},
		"too many names":       {manyNames(10_001), "more than 10000 names"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := jsonscan.Valid([]byte(test.text))
			require.Error(t, err)
			assert.Contains(t, err.Error(), test.want)
			var syntax *jsonscan.SyntaxError
			require.ErrorAs(t, err, &syntax)
		})
	}
}

func manyNames(count int) string {
	var text strings.Builder
	for i := range count {
		text.WriteString(`,"` + strconv.Itoa(i) + `":0`)
	}
	return "{" + text.String()[1:] + "}"
}

func TestWhatIsTaken(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, ` [ ] `, `0`, `-0`, `1e400`, `-1.5E-7`, `123456789012345678901234567890`,
		`"\ud83d\ude00 \u0000 \/"`, `"é"`, `null`, `true`, `false`, "\t\r\n[1 , 2]",
		strings.Repeat("[", 64) + strings.Repeat("]", 64), manyNames(10_000),
		"1" + strings.Repeat("0", 1<<20),
	} {
		assert.NoError(t, jsonscan.Valid([]byte(text)), "%.40s", text)
	}
}

func TestAnErrorNamesItsPlace(t *testing.T) {
	err := jsonscan.Valid([]byte("{\n  \"a\": x\n}"))
	var syntax *jsonscan.SyntaxError
	require.ErrorAs(t, err, &syntax)
	assert.Equal(t, jsonscan.SyntaxError{
		Offset: 9, Line: 2, Column: 8,
		Reason: "invalid character 'x' where a value is expected",
	}, *syntax)
}

func TestAnObjectIsReadInOnePass(t *testing.T) {
	s := jsonscan.New([]byte(`{"i": 7, "s": "a\u00e9\n", "l": [1, "2"], "n": null, "b": true}`))
	require.NoError(t, s.EnterObject())
	var names []string
	for {
		name, more, err := s.Key()
		require.NoError(t, err)
		if !more {
			break
		}
		names = append(names, string(name))
		switch names[len(names)-1] {
		case "i":
			value, err := s.Int(32)
			require.NoError(t, err)
			assert.EqualValues(t, 7, value)
		case "s":
			value, err := s.Text()
			require.NoError(t, err)
			assert.Equal(t, "aé\n", string(value))
		case "l":
			assert.Equal(t, []int64{1, 2}, readInts(t, s))
		case "n":
			assert.Equal(t, jsonscan.Null, s.Kind())
			require.NoError(t, s.Null())
		case "b":
			value, err := s.Bool()
			require.NoError(t, err)
			assert.True(t, value)
		}
	}
	require.NoError(t, s.End())
	assert.Equal(t, []string{"i", "s", "l", "n", "b"}, names)
}

func readInts(t *testing.T, s *jsonscan.Scanner) (values []int64) {
	t.Helper()
	require.NoError(t, s.EnterArray())
	for {
		more, err := s.Element()
		require.NoError(t, err)
		if !more {
			return values
		}
		value, err := s.Int(64)
		require.NoError(t, err)
		values = append(values, value)
	}
}

func TestIntegersAreExactOrRefused(t *testing.T) {
	tests := []struct {
		text string
		bits int
		want int64
		err  string
	}{
		{"0", 32, 0, ""},
		{"-0", 32, 0, ""},
		{"2147483647", 32, 1<<31 - 1, ""},
		{"-2147483648", 32, -1 << 31, ""},
		{"2147483648", 32, 0, "-2147483648 to 2147483647"},
		{"-2147483649", 32, 0, "out of range"},
		{"9223372036854775807", 64, 1<<63 - 1, ""},
		{`"9223372036854775807"`, 64, 1<<63 - 1, ""},
		{"-9223372036854775808", 64, -1 << 63, ""},
		{"9223372036854775808", 64, 0, "-9223372036854775808 to 9223372036854775807"},
		{"18446744073709551617", 64, 0, "out of range"},
		{strings.Repeat("9", 1<<20), 64, 0, "out of range"},
		{"1.0", 64, 0, "not a decimal integer"},
		{"1e3", 64, 0, "not a decimal integer"},
		{`""`, 64, 0, "not a decimal integer"},
		{`" 1"`, 64, 0, "not a decimal integer"},
		{`"01"`, 64, 0, "not a decimal integer"},
		{`"0x1"`, 64, 0, "not a decimal integer"},
		{"true", 64, 0, "a boolean where an integer is expected"},
	}
	for _, test := range tests {
		got, err := jsonscan.New([]byte(test.text)).Int(test.bits)
		if test.err != "" {
			require.Error(t, err, "%.40s", test.text)
			assert.Contains(t, err.Error(), test.err)
			assert.Less(t, len(err.Error()), 200)
			continue
		}
		require.NoError(t, err, test.text)
		assert.Equal(t, test.want, got)
	}
}

func TestBase64(t *testing.T) {
	tests := []struct{ text, want, err string }{
		{`""`, "", ""},
		{`"dmFsdWU="`, "value", ""},
		{`"dmFsdWU"`, "value", ""},
		{`"+/+/"`, "\xfb\xff\xbf", ""},
		{`"-_-_"`, "\xfb\xff\xbf", ""},
		{`"+\/+\/"`, "\xfb\xff\xbf", ""},
		{`"+_+_"`, "", "'+' at character 0 is of the standard alphabet"},
		{`"YQ"`, "a", ""},
		{`"YQ=="`, "a", ""},
		{`"YQ="`, "", "wrong padding"},
		{`"YQ==="`, "", "wrong padding"},
		{`"Y==="`, "", "'=' at character 1"},
		{`"===="`, "", "not base64"},
		{`"="`, "", "wrong padding"},
		{`"YR=="`, "", "bits are left over"},
		{`"YR"`, "", "bits are left over"},
		{`"Y"`, "", "ends within a byte"},
		{`"YWJj YQ"`, "", "' ' at character 4"},
		{`"YWJj\nYWJj"`, "", "a line break"},
		{`"YWJj\r\n"`, "", "a line break"},
		{"\"YWJj\n\"", "", "a line break"},
		{"\"YW\xff\xff\"", "", "byte 0xff at character 2"},
		{`"YWJj=YQ"`, "", "'=' at character 4"},
		{`17`, "", "a number where a string is expected"},
	}
	for _, test := range tests {
		got, err := jsonscan.New([]byte(test.text)).Base64([]byte("before "))
		if test.err != "" {
			require.Error(t, err, test.text)
			assert.Contains(t, err.Error(), test.err, test.text)
			continue
		}
		require.NoError(t, err, test.text)
		assert.Equal(t, "before "+test.want, string(got))
	}
}

// accepts is the oracle: encoding/json, and what it lets through.
func accepts(text []byte) bool {
	if !json.Valid(text) || !utf8.Valid(text) || loneSurrogate(text) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return distinct(decoder, 0)
}

// distinct reads one value and reports whether no object names anything twice
// and nothing is too deep.
func distinct(decoder *json.Decoder, depth int) bool {
	token, err := decoder.Token()
	if err != nil {
		return false
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return true
	}
	if depth == jsonscan.DepthMax {
		return false
	}
	names := map[string]bool{}
	for decoder.More() {
		if delim == '{' {
			name, err := decoder.Token()
			text, ok := name.(string)
			if err != nil || !ok || names[text] {
				return false
			}
			names[text] = true
		}
		if !distinct(decoder, depth+1) {
			return false
		}
	}
	_, err = decoder.Token()
	return err == nil
}

// loneSurrogate reports whether valid JSON holds an escape of half a pair.
func loneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		high, _ := strconv.ParseUint(string(text[i+1:i+5]), 16, 16)
		i += 4
		if !utf16.IsSurrogate(rune(high)) {
			continue
		}
		rest := text[i+1:]
		if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
			return true
		}
		low, _ := strconv.ParseUint(string(rest[2:6]), 16, 16)
		if utf16.DecodeRune(rune(high), rune(low)) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// FuzzValid compares the scanner with encoding/json.
func FuzzValid(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e3,true,null,"\ud83d\ude00\\u"],"b":{}}`, `{"a":1,"a":2}`, "\ufeff1",
		`"\ud800"`, "\"\xff\"", `[[[]]]`, `01`, `1.`, `"\"`, `{"a":}`, `"\ud800\\udc00"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := jsonscan.Valid(text)
		if want := accepts(text); want != (err == nil) {
			t.Fatalf("%q: encoding/json says %v, the scanner %v", text, want, err)
		}
	})
}

// FuzzText compares strings, and numbers, with what encoding/json makes of them.
func FuzzText(f *testing.F) {
	f.Add([]byte(`"a\u00e9\ud83d\ude00\n\/"`))
	f.Add([]byte(`-9223372036854775808`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !accepts(text) {
			return
		}
		s := jsonscan.New(text)
		switch s.Kind() {
		case jsonscan.String:
			got, err := s.Text()
			require.NoError(t, err)
			var want string
			require.NoError(t, json.Unmarshal(text, &want))
			assert.Equal(t, want, string(got))
		case jsonscan.Number:
			got, err := s.Int(64)
			var want int64
			wantErr := json.Unmarshal(text, &want)
			require.Equal(t, wantErr == nil, err == nil, "%q", text)
			assert.Equal(t, want, got)
		}
	})
}

// FuzzBase64 compares with encoding/base64 and re-encodes what was taken.
func FuzzBase64(f *testing.F) {
	f.Add([]byte("dmFsdWU="))
	f.Add([]byte("-_-_"))
	f.Add([]byte("YR=="))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := jsonscan.AppendBase64(nil, text)
		taken := false
		for _, encoding := range []*base64.Encoding{
			base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
		} {
			want, err := encoding.Strict().DecodeString(string(text))
			if err != nil || bytes.ContainsAny(text, "\r\n") {
				continue
			}
			taken = true
			assert.Equal(t, string(want), string(got))
		}
		assert.Equal(t, taken, err == nil, "%q: %v", text, err)
	})
}
