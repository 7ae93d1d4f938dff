package contract

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// at returns the object under names, or nil.
func at(from object, names ...string) object {
	for _, name := range names {
		next, _ := from[name].(object)
		from = next
	}
	return from
}

// resolve follows a reference.
func (d *Document) resolve(from object) object {
	for {
		ref, ok := from["$ref"].(string)
		if !ok {
			return from
		}
		from = at(d.all, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

// decode reads the values that a text is made of, with numbers as they are
// written.
func decode(text []byte) (values []any, err error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		var value any
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
}

// Check returns how a value, decoded with numbers as json.Number, breaks a schema.
func (d *Document) Check(schema map[string]any, value any) []string {
	return d.check(schema, value, "", true)
}

// check is Check. Canonical says that base64 must be of the standard alphabet and
// padded, as what is answered is.
func (d *Document) check(schema object, value any, path string, canonical bool) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		target := d.resolve(schema)
		if target == nil {
			return []string{path + ": " + ref + " leads nowhere"}
		}
		return d.check(target, value, path, canonical)
	}
	parts, _ := schema["allOf"].([]any)
	for _, part := range parts {
		item, _ := part.(object)
		wrong = append(wrong, d.check(item, value, path, canonical)...)
	}
	if types := typesOf(schema); len(types) > 0 && !slices.Contains(types, typeOf(value)) &&
		(typeOf(value) != "integer" || !slices.Contains(types, "number")) {
		return append(wrong, fmt.Sprintf("%s: %s, not %v", path, typeOf(value), types))
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, value) {
		if text, isText := value.(string); isText {
			wrong = append(wrong, fmt.Sprintf("%s: %q is none of %v", path, text, values))
		}
	}
	switch v := value.(type) {
	case string:
		wrong = append(wrong, checkText(schema, v, path, canonical)...)
	case json.Number:
		wrong = append(wrong, checkNumber(schema, v, path)...)
	case []any:
		wrong = append(wrong, bounded(schema, "Items", len(v), path)...)
		items, _ := schema["items"].(object)
		for i, item := range v {
			where := fmt.Sprintf("%s[%d]", path, i)
			wrong = append(wrong, d.check(items, item, where, canonical)...)
		}
	case object:
		wrong = append(wrong, d.checkMembers(schema, v, path, canonical)...)
	}
	return wrong
}

func (d *Document) checkMembers(
	schema, value object, path string, canonical bool,
) (wrong []string) {
	required, _ := schema["required"].([]any)
	for _, item := range required {
		name, _ := item.(string)
		if _, ok := value[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is missing", path, name))
		}
	}
	dependent, _ := schema["dependentRequired"].(object)
	for name, others := range dependent {
		others, _ := others.([]any)
		for _, item := range others {
			other, _ := item.(string)
			if value[name] != nil && value[other] == nil {
				wrong = append(wrong, fmt.Sprintf("%s.%s is missing beside %s", path, other, name))
			}
		}
	}
	properties, described := schema["properties"].(object)
	for name, member := range value {
		property, known := properties[name].(object)
		additional, isSchema := schema["additionalProperties"].(object)
		switch {
		case known:
			wrong = append(wrong, d.check(property, member, path+"."+name, canonical)...)
		case isSchema:
			wrong = append(wrong, d.check(additional, member, path+"."+name, canonical)...)
		case described && schema["additionalProperties"] != true:
			wrong = append(wrong, fmt.Sprintf("%s.%s is not in the document", path, name))
		}
	}
	return wrong
}

func checkText(schema object, value, path string, canonical bool) (wrong []string) {
	wrong = bounded(schema, "Length", utf8.RuneCountInString(value), path)
	if pattern, ok := schema["pattern"].(string); ok &&
		!regexp.MustCompile(pattern).MatchString(value) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is not like %s", path, value, pattern))
	}
	if schema["contentEncoding"] == "base64" {
		if err := checkBase64(value, canonical); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %.100q: %s", path, value, err))
		}
	}
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, value); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %s", path, err))
		}
	}
	return wrong
}

// checkBase64 checks a text that may be of either alphabet, padded or not, unless
// it is to be canonical.
func checkBase64(value string, canonical bool) error {
	if canonical {
		_, err := base64.StdEncoding.Strict().DecodeString(value)
		return err
	}
	if strings.ContainsAny(value, "\r\n") { // which the decoder would pass over
		return errors.New("it has line breaks")
	}
	if strings.HasSuffix(value, "=") && len(value)%4 != 0 {
		return errors.New("its padding is wrong")
	}
	alphabet := base64.RawStdEncoding
	if strings.ContainsAny(value, "-_") {
		alphabet = base64.RawURLEncoding
	}
	_, err := alphabet.Strict().DecodeString(strings.TrimRight(value, "="))
	return err
}

func checkNumber(schema object, value json.Number, path string) (wrong []string) {
	number, ok := new(big.Rat).SetString(value.String())
	if !ok {
		return []string{fmt.Sprintf("%s: %s is no number", path, value)}
	}
	outside := func(bound any, below bool) bool {
		limit, ok := bound.(float64)
		compared := number.Cmp(new(big.Rat).SetFloat64(limit))
		return ok && (below && compared < 0 || !below && compared > 0)
	}
	if outside(schema["minimum"], true) || outside(schema["maximum"], false) {
		wrong = append(wrong, fmt.Sprintf("%s: %s is beyond its bounds", path, value))
	}
	bits := map[any]int{"int32": 31, "int64": 63}[schema["format"]]
	if bits > 0 && number.IsInt() && number.Num().BitLen() > bits {
		wrong = append(wrong, fmt.Sprintf("%s: %s is no %s", path, value, schema["format"]))
	}
	return wrong
}

// bounded checks a length against min and max of a kind: Items or Length.
func bounded(schema object, kind string, length int, path string) (wrong []string) {
	least, ok := schema["min"+kind].(float64)
	if ok && length < int(least) {
		wrong = append(wrong, fmt.Sprintf("%s: %d, less than %v", path, length, least))
	}
	most, ok := schema["max"+kind].(float64)
	if ok && length > int(most) {
		wrong = append(wrong, fmt.Sprintf("%s: %d, more than %v", path, length, most))
	}
	return wrong
}

func typesOf(schema object) (types []string) {
	switch v := schema["type"].(type) {
	case string:
		return []string{v}
	case []any:
		for _, item := range v {
			types = append(types, fmt.Sprint(item))
		}
	}
	return types
}

func typeOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}
