// Package fault is the one catalogue of the errors that callers see: a row per
// reason with its gRPC code, HTTP status, Confluent error_code and message.
//
// A room returns a row with the values that belong to the case:
//
//	return fault.UnknownTopicOrPartition.With("topic", name)
//
// callers compare with errors.Is, and the edges (the gRPC interceptor, the
// gateway) translate once, with Status and From.
package fault

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// Domain is the ErrorInfo domain of every error that Sluice raises.
const Domain = "sluice.v1"

// Fault is a row of the catalogue. Rows are created in this package only and
// never change; compare them with errors.Is.
type Fault struct {
	// Reason is the ErrorInfo reason: Kafka's name of the error where Kafka
	// has one.
	Reason string
	// Variant is set where two rows share a reason: the name of the metadata
	// value whose presence selects this row instead of the plain one.
	Variant string
	// Code is the gRPC status code.
	Code codes.Code
	// HTTP is the HTTP status.
	HTTP int
	// ErrorCode is the error_code of the Confluent-shaped surfaces; it repeats
	// HTTP where Confluent has no number of its own.
	ErrorCode int
	// Retriable says that the same call may succeed later, unchanged.
	Retriable bool
	// Message is what the caller reads. {name} stands for the metadata value
	// of that name, and for nothing where there is none; a part in [brackets]
	// is left out where it would name a value that there is none of.
	Message string
	// Hint says what a caller can do, for docs/errors.md.
	Hint string
}

// Error returns the message with no values filled in.
func (f *Fault) Error() string { return fill(f.Message, nil) }

// With returns an error of this row with metadata given as name, value pairs.
// Values are formatted with fmt.Sprint and cut at 256 bytes. An odd number of
// arguments is a bug of the caller and panics.
func (f *Fault) With(pairs ...any) *Error {
	if len(pairs)%2 != 0 {
		panic("fault: With needs name, value pairs")
	}
	e := &Error{Fault: f}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			panic("fault: With needs string names")
		}
		e.Metadata = append(e.Metadata, Pair{Name: name, Value: clip(fmt.Sprint(pairs[i+1]))})
	}
	return e
}

// Because returns an error of this row whose message ends in detail.
func (f *Fault) Because(format string, args ...any) *Error {
	return f.With().Because(format, args...)
}

// Wrap returns an error of this row that was caused by err. The caller sees
// err's text; errors.Is and errors.As see err too.
func (f *Fault) Wrap(err error) *Error {
	return &Error{Fault: f, cause: err, detail: err.Error()}
}

// Pair is a named value of an error's metadata.
type Pair struct {
	Name  string
	Value string
}

// Error is a fault that happened: a row of the catalogue and the values of the
// case. It is immutable once it has been returned.
type Error struct {
	*Fault
	Metadata []Pair
	Fields   []Field
	detail   string
	cause    error
	text     string // what the other side wrote, where the error came over the wire
}

// Field names a field of a request that is wrong, and what is wrong with it.
type Field struct {
	Path        string
	Description string
}

// Because adds a detail to the message.
func (e *Error) Because(format string, args ...any) *Error {
	e.detail = fmt.Sprintf(format, args...)
	return e
}

// At adds the field of the request that is wrong, as a path such as
// records[3].value.
func (e *Error) At(path, description string) *Error {
	e.Fields = append(e.Fields, Field{Path: path, Description: description})
	return e
}

// Error returns the message of the row, its values filled in, and the detail.
func (e *Error) Error() string {
	if e.text != "" {
		return e.text
	}
	message := fill(e.Message, e.Metadata)
	if len(e.Fields) == 0 && e.detail == "" {
		return message
	}
	parts := []string{strings.TrimSuffix(message, ".")}
	for _, field := range e.Fields {
		parts = append(parts, field.Path, field.Description)
	}
	if e.detail != "" {
		parts = append(parts, e.detail)
	}
	return strings.Join(parts, ": ")
}

// Is reports whether target is the row that this error is of, or the plain row
// of the same reason.
func (e *Error) Is(target error) bool {
	row, ok := target.(*Fault)
	return ok && (row == e.Fault || row.Reason == e.Reason && row.Variant == "")
}

// Unwrap returns what caused the error, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Value returns the metadata value of a name, or "".
func (e *Error) Value(name string) string {
	for _, pair := range e.Metadata {
		if pair.Name == name {
			return pair.Value
		}
	}
	return ""
}

// Of returns the fault that err is or wraps. The text of what was wrapped
// around it is kept as detail only where err is no *Error itself. ok is false
// where err holds no fault.
func Of(err error) (e *Error, ok bool) {
	if errors.As(err, &e) {
		return e, true
	}
	if row, ok := errors.AsType[*Fault](err); ok {
		return row.With(), true
	}
	return nil, false
}

// lookup returns the row of a reason and the metadata that came with it, or
// nil.
func lookup(reason string, metadata map[string]string) *Fault {
	if row := variants[reason]; row != nil {
		if _, ok := metadata[row.Variant]; ok {
			return row
		}
	}
	return byReason[reason]
}

// All returns the catalogue, sorted by reason. The slice is the caller's.
func All() []*Fault { return append([]*Fault(nil), rows...) }

// fill replaces every {name} of a message by its value, and drops the names
// that have none and the [parts] around them. Values are never looked into.
func fill(message string, values []Pair) string {
	value := func(name string) (string, bool) {
		i := slices.IndexFunc(values, func(p Pair) bool { return "{"+p.Name+"}" == name })
		if i < 0 {
			return "", false
		}
		return values[i].Value, true
	}
	message = optional.ReplaceAllStringFunc(message, func(part string) string {
		for _, name := range placeholder.FindAllString(part, -1) {
			if _, ok := value(name); !ok {
				return ""
			}
		}
		return part[1 : len(part)-1]
	})
	message = placeholder.ReplaceAllStringFunc(message, func(name string) string {
		text, _ := value(name)
		return text
	})
	return strings.Join(strings.Fields(message), " ")
}

var (
	optional    = regexp.MustCompile(`\[[^\[\]]*\]`)
	placeholder = regexp.MustCompile(`\{[a-z_]+\}`)
)

const valueBytesMax = 256

// clip bounds a value that may come from a caller, and escapes what would
// break a log line.
func clip(value string) string {
	if len(value) > valueBytesMax {
		value = strings.ToValidUTF8(value[:valueBytesMax], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(value, "\uFFFD"))
}
