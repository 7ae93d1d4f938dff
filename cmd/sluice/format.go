package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// recordFormat appends a record as text.
type recordFormat func(dst []byte, r *sluice.Record) []byte

// parseRecordFormat reads the format of consume: json, or text with % verbs and
// backslash escapes. Null is written as nullText.
func parseRecordFormat(text, nullText string) (recordFormat, error) {
	if text == "json" {
		return appendRecordJSON, nil
	}
	var parts []recordFormat
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, `%\`)
		if i != 0 {
			if i < 0 {
				i = len(rest)
			}
			parts = append(parts, literal(rest[:i]))
			rest = rest[i:]
			continue
		}
		parse := parseVerb
		if rest[0] == '\\' {
			parse = parseEscape
		}
		part, length, err := parse(rest, nullText)
		if err != nil {
			return nil, wrongUsage("--format %q, character %d: %w", text,
				len(text)-len(rest)+1, err)
		}
		parts = append(parts, part)
		rest = rest[length:]
	}
	return func(dst []byte, r *sluice.Record) []byte {
		for _, part := range parts {
			dst = part(dst, r)
		}
		return dst
	}, nil
}

func literal(text string) recordFormat {
	return func(dst []byte, _ *sluice.Record) []byte { return append(dst, text...) }
}

// parseEscape reads the escape that text begins with, and returns its length.
func parseEscape(text, _ string) (recordFormat, int, error) {
	if len(text) < 2 {
		return nil, 0, errors.New(`a \ at the end`)
	}
	if strings.HasPrefix(text, `\x`) && len(text) >= 4 {
		if b, err := strconv.ParseUint(text[2:4], 16, 8); err == nil {
			return literal(string([]byte{byte(b)})), 4, nil
		}
	}
	plain := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': `\`, '0': "\x00"}
	if s, ok := plain[text[1]]; ok {
		return literal(s), 2, nil
	}
	return nil, 0, fmt.Errorf(`no escape %q, want \n \t \r \0 \\ or \x with two hex digits`,
		text[:2])
}

// parseVerb reads the verb that text begins with, and returns its length.
func parseVerb(text, nullText string) (recordFormat, int, error) {
	if len(text) < 2 {
		return nil, 0, errors.New("a % at the end")
	}
	switch text[1] {
	case '%':
		return literal("%"), 2, nil
	case 't':
		return func(dst []byte, r *sluice.Record) []byte { return append(dst, r.Topic...) }, 2, nil
	case 'p':
		return number(func(r *sluice.Record) int64 { return int64(r.Partition) }), 2, nil
	case 'o':
		return number(func(r *sluice.Record) int64 { return r.Offset }), 2, nil
	case 'T':
		return number(func(r *sluice.Record) int64 { return r.Timestamp.UnixMilli() }), 2, nil
	case 'd':
		return func(dst []byte, r *sluice.Record) []byte {
			return r.Timestamp.AppendFormat(dst, jsonTimeLayout)
		}, 2, nil
	case 'K':
		return number(func(r *sluice.Record) int64 { return size(r.Key) }), 2, nil
	case 'V':
		return number(func(r *sluice.Record) int64 { return size(r.Value) }), 2, nil
	case 'h':
		return func(dst []byte, r *sluice.Record) []byte {
			return appendHeaders(dst, r.Headers, nullText)
		}, 2, nil
	case 'k', 'v':
		return parsePayloadVerb(text, nullText)
	}
	return nil, 0, fmt.Errorf("no verb %q, want %%t topic, %%p partition, %%o offset, %%k key, "+
		"%%v value, %%h headers, %%T or %%d timestamp, %%K %%V sizes or %%%%", text[:2])
}

func number(of func(*sluice.Record) int64) recordFormat {
	return func(dst []byte, r *sluice.Record) []byte { return strconv.AppendInt(dst, of(r), 10) }
}

// size is -1 for null.
func size(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

// parsePayloadVerb reads %k or %v, with {hex} or {base64} behind it or not.
func parsePayloadVerb(text, nullText string) (recordFormat, int, error) {
	encode := func(dst, b []byte) []byte { return append(dst, b...) }
	length := 2
	switch {
	case strings.HasPrefix(text[2:], "{hex}"):
		encode, length = hex.AppendEncode, len("%k{hex}")
	case strings.HasPrefix(text[2:], "{base64}"):
		encode, length = base64.StdEncoding.AppendEncode, len("%k{base64}")
	}
	isKey := text[1] == 'k'
	return func(dst []byte, r *sluice.Record) []byte {
		b := r.Value
		if isKey {
			b = r.Key
		}
		if b == nil {
			return append(dst, nullText...)
		}
		return encode(dst, b)
	}, length, nil
}

// appendHeaders writes name=value,name=value.
func appendHeaders(dst []byte, headers []sluice.Header, nullText string) []byte {
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, h.Key...), '=')
		if h.Value == nil {
			dst = append(dst, nullText...)
		}
		dst = append(dst, h.Value...)
	}
	return dst
}

// jsonTimeLayout is RFC 3339 with the milliseconds that the log keeps.
const jsonTimeLayout = "2006-01-02T15:04:05.000Z07:00"

// recordJSON is a record as consume writes it. What is UTF-8 is text; what is
// not is base64 under another name.
type recordJSON struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   string       `json:"timestamp"`
	Key         any          `json:"key"` // a text, or JSON
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       any          `json:"value"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

type headerJSON struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// textOrBase64 returns b as text, or as it is where it is no UTF-8.
func textOrBase64(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	text := string(b)
	return &text, nil
}

// appendRecordJSON writes a record as one line of JSON.
func appendRecordJSON(dst []byte, r *sluice.Record) []byte {
	return appendDecodedJSON(dst, r, nil, nil)
}

// appendDecodedJSON is appendRecordJSON for a record whose key or value has been
// decoded to JSON; nil means that it has not.
func appendDecodedJSON(dst []byte, r *sluice.Record, key, value []byte) []byte {
	out := recordJSON{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Timestamp: r.Timestamp.UTC().Format(jsonTimeLayout),
	}
	out.Key, out.KeyBase64 = textOrBase64(r.Key)
	out.Value, out.ValueBase64 = textOrBase64(r.Value)
	if key != nil {
		out.Key, out.KeyBase64 = json.RawMessage(key), nil
	}
	if value != nil {
		out.Value, out.ValueBase64 = json.RawMessage(value), nil
	}
	for _, h := range r.Headers {
		header := headerJSON{Name: h.Key}
		header.Value, header.ValueBase64 = textOrBase64(h.Value)
		out.Headers = append(out.Headers, header)
	}
	line := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		panic(err) // plain strings, numbers and JSON always can be written
	}
	return line.Bytes()
}

// parseFrom reads where to begin: beginning, end, an offset, or @ and a time.
func parseFrom(text string, now time.Time) (sluice.Offset, error) {
	switch text {
	case "beginning", "earliest", "start":
		return sluice.Beginning(), nil
	case "end", "latest":
		return sluice.End(), nil
	}
	wrong := wrongUsage("--from is %q, want beginning, end, an offset, or @TIME as RFC 3339 "+
		"(@2026-01-01T00:00:00Z), milliseconds (@1767225600000) or a time ago (@-1h)", text)
	at, isTime := strings.CutPrefix(text, "@")
	if !isTime {
		offset, err := strconv.ParseInt(text, 10, 64)
		if err != nil || offset < 0 {
			return sluice.Offset{}, wrong
		}
		return sluice.At(offset), nil
	}
	if ms, err := strconv.ParseInt(at, 10, 64); err == nil && ms >= 0 {
		return sluice.Since(time.UnixMilli(ms)), nil
	}
	if ago, err := time.ParseDuration(at); err == nil && ago <= 0 {
		return sluice.Since(now.Add(ago)), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return sluice.Offset{}, wrong
	}
	return sluice.Since(t), nil
}
