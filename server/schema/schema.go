// Package schema checks records against the schema registry before a broker
// stores them: that they name a schema that is there, and are a value of it.
package schema

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sluicelog/sluice/internal/avro"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
	"github.com/sluicelog/sluice/internal/shelf"
)

// ErrUnknown is what a Source answers for an id that the registry does not have.
var ErrUnknown = errors.New("no such schema")

// Source is where the schemas come from; Twin is the registry's gRPC side.
type Source interface {
	// SchemaByID returns the text of a schema and the texts of what it refers
	// to, each before those that use it. An error is ErrUnknown if the registry
	// has no such id; any other means that it cannot be asked.
	SchemaByID(ctx context.Context, id int32) (text string, references []string, err error)
}

// Rules say which parts of a topic's records are checked.
type Rules struct {
	Key, Value bool
}

// RulesOf returns what a topic's settings ask for.
func RulesOf(t setting.Topic) Rules {
	return Rules{Key: t.KeySchemaValidation, Value: t.ValueSchemaValidation}
}

// Any tells whether anything is checked at all.
func (r Rules) Any() bool { return r.Key || r.Value }

// Record is what is checked of a record. Nil is null, and passes.
type Record struct {
	Key, Value []byte
}

// Config bounds a Checker. DefaultConfig has the values to start from.
type Config struct {
	// CacheBytes bounds the memory for parsed schemas. Default 64 MiB.
	CacheBytes int
	// CacheCount bounds the number of ids that are remembered, of schemas and
	// of none. Default 10,000.
	CacheCount int
	// UnknownTime is how long an id is taken for unknown without asking again.
	// Default 5 s.
	UnknownTime time.Duration
	// AskTime bounds each question to the registry. Default 5 s.
	AskTime time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		CacheBytes: 64 << 20, CacheCount: 10_000, UnknownTime: 5 * time.Second,
		AskTime: 5 * time.Second,
	}
}

// Validate refuses a configuration that bounds nothing.
func (c Config) Validate() error {
	if c.CacheBytes < 1 || c.CacheCount < 1 || c.UnknownTime < 0 || c.AskTime <= 0 {
		return fmt.Errorf("schema: %+v: CacheBytes, CacheCount and AskTime are above 0, and "+
			"UnknownTime is 0 or more", c)
	}
	return nil
}

// Checker checks records. It may be used concurrently, starts no goroutine, and
// needs no Close.
type Checker struct {
	source Source
	config Config
	known  *shelf.Shelf[int32, known]
}

// known is what the registry said of an id.
type known struct {
	schema *avro.Schema // nil if there is none
	// problem says why there is none, until when.
	problem string
	until   time.Time
}

// New returns a Checker that asks source.
func New(source Source, config Config) (*Checker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Checker{
		source: source, config: config,
		known: shelf.New[int32, known](config.CacheCount, config.CacheBytes),
	}, nil
}

// Check checks records by a topic's rules. It returns nil if all are right, and
// otherwise a slice with an error or nil for each record: fault.InvalidRecord,
// which names the part and what is wrong with it, or, where the registry cannot
// be asked, fault.BrokerNotAvailable, which is retriable. It neither keeps nor
// changes the records.
func (c *Checker) Check(ctx context.Context, rules Rules, records []Record) []error {
	if !rules.Any() {
		return nil
	}
	var failed []error
	b := batch{checker: c}
	for i, r := range records {
		err := b.check(ctx, rules, r, i)
		if err == nil {
			continue
		}
		if failed == nil {
			failed = make([]error, len(records))
		}
		failed[i] = err
	}
	return failed
}

// batch is one call of Check.
type batch struct {
	checker *Checker
	id      int32 // of last
	last    known
	unfit   error // why the registry cannot be asked, so that it is asked once
}

func (b *batch) check(ctx context.Context, rules Rules, r Record, i int) error {
	if rules.Key {
		if err := b.part(ctx, r.Key, i, "key"); err != nil {
			return err
		}
	}
	if rules.Value {
		return b.part(ctx, r.Value, i, "value")
	}
	return nil
}

// part checks a key or a value.
func (b *batch) part(ctx context.Context, data []byte, i int, name string) error {
	if data == nil {
		return nil
	}
	invalid := func(format string, args ...any) error {
		return fault.InvalidRecord.With().At(fmt.Sprintf("records[%d].%s", i, name),
			fmt.Sprintf(format, args...))
	}
	const frame = 5
	switch {
	case len(data) < frame:
		return invalid("has %d bytes; the topic takes a zero byte, a schema id of 4 bytes, and "+
			"a value of that schema", len(data))
	case data[0] != 0:
		return invalid("begins with the byte 0x%02x; the topic takes a zero byte, a schema id of "+
			"4 bytes, and a value of that schema", data[0])
	}
	id := binary.BigEndian.Uint32(data[1:])
	if id == 0 || id > 1<<31-1 {
		return invalid("has the schema id %d; ids are 1 to 2147483647", id)
	}
	k, err := b.schema(ctx, int32(id))
	if err != nil {
		return err
	}
	if k.schema == nil {
		return invalid("has the schema id %d, and %s", id, k.problem)
	}
	if err := avro.Validate(k.schema, data[frame:], avro.DataLimits{}); err != nil {
		return invalid("is no value of the schema with id %d: %v", id, err)
	}
	return nil
}

// schema returns what is known of an id. Records that come together mostly have
// the same.
func (b *batch) schema(ctx context.Context, id int32) (known, error) {
	if b.id == id {
		return b.last, nil
	}
	if b.unfit != nil {
		return known{}, b.unfit
	}
	k, err := b.checker.find(ctx, id)
	if err != nil {
		b.unfit = err
		return known{}, err
	}
	b.id, b.last = id, k
	return k, nil
}

func (c *Checker) find(ctx context.Context, id int32) (known, error) {
	k, err := c.known.Get(ctx, id, func(ctx context.Context) (known, int, error) {
		return c.ask(ctx, id)
	})
	if err == nil && k.schema == nil && time.Now().After(k.until) {
		c.known.Drop(id)
		k, err = c.known.Get(ctx, id, func(ctx context.Context) (known, int, error) {
			return c.ask(ctx, id)
		})
	}
	if err == nil {
		return k, nil
	}
	if ctx.Err() != nil {
		return known{}, fmt.Errorf("asking the schema registry: %w", ctx.Err())
	}
	return known{}, fault.BrokerNotAvailable.Because(
		"the topic's records are checked, and the schema registry cannot be asked for id %d: %v",
		id, err)
}

const (
	entryBytes = 200
	// parsedFactor is how many times the size of its text a schema has.
	parsedFactor = 8
)

// ask asks the registry.
func (c *Checker) ask(ctx context.Context, id int32) (known, int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.AskTime)
	defer cancel()
	text, references, err := c.source.SchemaByID(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return c.none("the schema registry has no such id"), entryBytes, nil
	}
	if err != nil {
		return known{}, 0, err
	}
	size := len(text)
	for _, reference := range references {
		size += len(reference)
	}
	s, err := avro.Parse(text, avro.Options{Mode: avro.Lenient, References: references})
	if err != nil {
		return c.none(fmt.Sprintf("its schema is not understood: %v", err)), entryBytes, nil
	}
	return known{schema: s}, entryBytes + parsedFactor*size, nil
}

func (c *Checker) none(problem string) known {
	return known{problem: problem, until: time.Now().Add(c.config.UnknownTime)}
}
