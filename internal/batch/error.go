package batch

import "fmt"

// Kind says what is wrong with a batch, and so how a broker answers it.
type Kind int8

const (
	// Corrupt is a batch that breaks the format: a broker answers CORRUPT_MESSAGE.
	Corrupt Kind = iota + 1
	// TooLarge is a batch or record over a limit: a broker answers MESSAGE_TOO_LARGE.
	TooLarge
	// Invalid is a record or option that Encode cannot write: the caller's mistake.
	Invalid
)

// String names the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Corrupt:
		return "corrupt batch"
	case TooLarge:
		return "batch too large"
	case Invalid:
		return "invalid batch"
	}
	return fmt.Sprintf("kind %d", int8(k))
}

// Error is the only error that this package returns: what was found where, and what would have
// been right.
type Error struct {
	Kind   Kind
	Record int    // index of the record in its batch, or -1 if it is the batch as a whole
	Field  string // what is wrong, in words: "key length"
	Value  string // what it was; empty if there is nothing to show
	Want   string // what would be right; empty if Err says it
	Err    error  // what the decompressor said, or nil
}

// Error puts the parts into one line: "corrupt batch: record 3: key length is -5, want -1 or more".
func (e *Error) Error() string {
	s := e.Kind.String() + ": "
	if e.Record >= 0 {
		s += fmt.Sprintf("record %d: ", e.Record)
	}
	s += e.Field
	if e.Value != "" {
		s += " is " + e.Value
	}
	if e.Want != "" {
		s += ", want " + e.Want
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the decompressor's error, if it was one.
func (e *Error) Unwrap() error { return e.Err }

// at says which record the error is about.
func (e *Error) at(record int) *Error {
	e.Record = record
	return e
}

func corrupt(field string, value any, want string, args ...any) *Error {
	return newError(Corrupt, field, value, want, args...)
}

func tooLarge(field string, value any, want string, args ...any) *Error {
	return newError(TooLarge, field, value, want, args...)
}

func invalid(field string, value any, want string, args ...any) *Error {
	return newError(Invalid, field, value, want, args...)
}

func newError(kind Kind, field string, value any, want string, args ...any) *Error {
	return &Error{
		Kind: kind, Record: -1, Field: field,
		Value: fmt.Sprint(value), Want: fmt.Sprintf(want, args...),
	}
}
