package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// lineFormat says how a line of input becomes a record.
type lineFormat struct {
	topic        string
	partition    int32
	format       string // raw, json, hex or base64
	keySeparator string // none if empty
	keyField     string // none if empty
	nullMarker   *string
	headers      []sluice.Header

	// What makes the bytes of a key or value of its text, in place of format;
	// nil: nothing.
	encodeKey, encodeValue func(text []byte) ([]byte, error)
}

// record makes a record of a line, which it takes over. Errors say what is
// wrong; the caller says where.
func (f *lineFormat) record(line []byte) (sluice.Record, error) {
	r := sluice.Record{Topic: f.topic, Partition: f.partition, Headers: f.headers}
	value := line
	if f.keySeparator != "" {
		key, rest, found := bytes.Cut(line, []byte(f.keySeparator))
		if !found {
			return r, fmt.Errorf("no key: the line has no %q (--key-separator)", f.keySeparator)
		}
		var err error
		if r.Key, err = f.key(key); err != nil {
			return r, fmt.Errorf("key: %w", err)
		}
		value = rest
	}
	if f.isNull(value) {
		return r, nil
	}
	var err error
	encode := f.decode
	if f.encodeValue != nil {
		encode = f.encodeValue
	}
	if r.Value, err = encode(value); err != nil {
		return r, err
	}
	if f.keyField != "" {
		r.Key, err = f.fieldKey(value)
	}
	return r, err
}

// fieldKey returns the key of a record whose value is a JSON object.
func (f *lineFormat) fieldKey(document []byte) ([]byte, error) {
	raw, err := field(document, f.keyField)
	if err != nil || raw == nil {
		return nil, err
	}
	if f.encodeKey == nil {
		return fieldText(raw)
	}
	key, err := f.encodeKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return key, nil
}

// key decodes what stands before the separator. With json it is plain text.
func (f *lineFormat) key(text []byte) ([]byte, error) {
	if f.isNull(text) {
		return nil, nil
	}
	if f.encodeKey != nil {
		return f.encodeKey(text)
	}
	if f.format == "json" {
		return text, nil
	}
	return f.decode(text)
}

func (f *lineFormat) isNull(text []byte) bool {
	return f.nullMarker != nil && string(text) == *f.nullMarker
}

// decode returns the bytes that a text stands for, never nil.
func (f *lineFormat) decode(text []byte) ([]byte, error) {
	switch f.format {
	case "json":
		var document json.RawMessage
		if err := json.Unmarshal(text, &document); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		return bytes.TrimSpace(text), nil
	case "hex":
		out, err := hex.AppendDecode([]byte{}, bytes.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("not hex: %w", err)
		}
		return out, nil
	case "base64":
		return decodeBase64(bytes.TrimSpace(text))
	}
	return text, nil
}

// decodeBase64 takes the standard and the URL alphabet, padded or not.
func decodeBase64(text []byte) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	out, err := encoding.Strict().AppendDecode([]byte{}, bytes.TrimRight(text, "="))
	if err != nil {
		return nil, fmt.Errorf("not base64: %w", err)
	}
	return out, nil
}

// field returns a field of a JSON object as it is written; nil for null.
func field(document []byte, name string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, fmt.Errorf("no key: the line is not a JSON object (--key-field): %w", err)
	}
	raw, ok := fields[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("no key: the object has no field %q (--key-field)", name)
	case string(raw) == "null":
		return nil, nil
	}
	return raw, nil
}

// fieldText returns the text of a JSON value: a string without its quotes, and
// anything else as it is written.
func fieldText(raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return raw, nil
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return []byte(text), err
}

// parseHeaders reads name=value pairs.
func parseHeaders(pairs []string) ([]sluice.Header, error) {
	var headers []sluice.Header
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, wrongUsage("--header is %q, want name=value", pair)
		}
		headers = append(headers, sluice.Header{Key: name, Value: []byte(value)})
	}
	return headers, nil
}

// check refuses settings that make no sense together.
func (f *lineFormat) check() error {
	if f.keyField != "" && f.format != "json" {
		return &usageError{errors.New("--key-field needs --format json, or a schema")}
	}
	if f.keyField != "" && f.keySeparator != "" {
		return &usageError{errors.New("--key-field and --key-separator exclude each other")}
	}
	return nil
}
