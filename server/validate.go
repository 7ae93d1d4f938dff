package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/schema"
)

// validate checks records against the schema registry, where the topic asks for
// that. One that is wrong fails the request as a whole, before anything is
// written.
func (p *production) validate(ctx context.Context, records []batch.Record) error {
	rules := schema.RulesOf(p.topic.settings)
	if !rules.Any() {
		return nil
	}
	if p.s.schemas == nil {
		return noRegistry(p.topic, rules)
	}
	checked := make([]schema.Record, len(records))
	for i, r := range records {
		checked[i] = schema.Record{Key: r.Key, Value: r.Value}
	}
	return refusal(p.s.schemas.Check(ctx, rules, checked))
}

// validateBatch is validate for a checked batch that the caller has encoded.
func (p *production) validateBatch(ctx context.Context, raw []byte) error {
	if !schema.RulesOf(p.topic.settings).Any() {
		return nil
	}
	scratch := scratches.Get().(*scratch)
	defer scratch.release()
	for r, err := range batch.Records(raw, p.topic.limits) {
		if err != nil {
			return fault.CorruptMessage.Wrap(err)
		}
		scratch.records = append(scratch.records, r)
	}
	return p.validate(ctx, scratch.records)
}

// noRegistry refuses records that nothing can check: a topic that asks for
// checked records must not get others.
func noRegistry(t *topic, rules schema.Rules) error {
	part := "value"
	if rules.Key {
		part = "key"
	}
	name := "confluent." + part + ".schema.validation"
	if own := "sluice." + part + ".schema.validation"; t.Configs[own] == "true" {
		name = own
	}
	return fault.InvalidConfig.With("value", "true", "name", name).Because(
		"topic %s takes records of registered schemas only, and the node has no schema "+
			"registry to ask", t.Name)
}

// The bounds of what an error says of a request's records: it travels in the
// trailers of a gRPC answer, which clients bound.
const (
	describedCountMax = 10
	namedBytesMax     = 400
)

// refusal makes one error of those of a request's records, nil where there are
// none: the first ones with what is wrong, the others by their number. A record
// that is wrong counts more than one that could not be checked, as sending the
// same again cannot help it.
func refusal(failed []error) error {
	var unchecked error
	refused := fault.InvalidRecord.With()
	var others []int
	for i, err := range failed {
		if err == nil {
			continue
		}
		e, ok := errors.AsType[*fault.Error](err)
		switch {
		case !ok || !errors.Is(err, fault.InvalidRecord):
			if unchecked == nil {
				unchecked = err
			}
		case len(refused.Fields) >= describedCountMax:
			others = append(others, i)
		default:
			refused.Fields = append(refused.Fields, e.Fields...)
		}
	}
	switch {
	case len(refused.Fields) == 0:
		return unchecked
	case len(others) > 0:
		return refused.Because("and %d more: records %s", len(others), ranges(others))
	}
	return refused
}

// ranges writes rising numbers as 3-5, 7, up to a bound.
func ranges(numbers []int) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len() > namedBytesMax {
			b.WriteString("and others")
			break
		}
		fmt.Fprint(&b, numbers[i])
		if last > i {
			fmt.Fprintf(&b, "-%d", numbers[last])
		}
		i = last + 1
	}
	return b.String()
}
