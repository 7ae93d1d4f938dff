package serde

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/avro"
)

// What can be wrong, to compare with errors.Is.
var (
	// ErrNotFramed: the bytes do not start with the magic byte and a schema id.
	ErrNotFramed = errors.New("not in the schema registry's wire format")
	// ErrPayload: the bytes are not one value of their schema, or too large a
	// one.
	ErrPayload = errors.New("not a value of its schema")
	// ErrValue: a Go value or a JSON text does not fit the schema. It is a
	// *ValueError, which names the place.
	ErrValue = errors.New("the value does not fit the schema")
	// ErrSchema: the text is no Avro schema.
	ErrSchema error = avro.ErrSchema
	// ErrNotFound: the registry has no such subject, version or schema.
	ErrNotFound = errors.New("not in the schema registry")
	// ErrIncompatible: the registry refuses a schema that would break readers
	// or writers of its subject.
	ErrIncompatible = errors.New("the schema is not compatible")
	// ErrUnreachable: no address of the registry answered.
	ErrUnreachable = errors.New("the schema registry cannot be reached")
)

// ValueError says which part of a value does not fit the schema, and why.
type ValueError struct {
	// Path is the place, from $ for the whole value: $.orders[2].price, or
	// $.labels["a b"] in a map.
	Path string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error returns the place and the problem.
func (e *ValueError) Error() string { return e.Path + ": " + e.Problem }

// Is makes errors.Is(err, ErrValue) true.
func (e *ValueError) Is(target error) bool { return target == ErrValue }

// unfit is a problem at a place whose path is not known yet.
func unfit(format string, args ...any) error {
	return &ValueError{Problem: fmt.Sprintf(format, args...)}
}

// pathBytesMax is how long paths get; deeper places are cut in the middle.
const pathBytesMax = 1000

// under puts a step before the path of err, if it has one.
func under(step string, err error) error {
	e, ok := errors.AsType[*ValueError](err)
	if !ok {
		return err
	}
	if len(e.Path) > pathBytesMax {
		if strings.HasPrefix(e.Path, "...") {
			return err
		}
		step = "..."
	}
	e.Path = step + e.Path
	return err
}

func fieldStep(name string) string { return "." + clip(name) }
func itemStep(i int) string        { return "[" + strconv.Itoa(i) + "]" }
func keyStep(key string) string    { return "[" + strconv.Quote(clip(key)) + "]" }

// rooted completes the path of an error.
func rooted(err error) error {
	if e, ok := errors.AsType[*ValueError](err); ok {
		e.Path = "$" + e.Path
	}
	return err
}

// payload returns an error of a payload: err with ErrPayload around it.
func payload(err error) error {
	if err == nil || errors.Is(err, ErrPayload) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrPayload, err)
}

// clip shortens what an error quotes.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
