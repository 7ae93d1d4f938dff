package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/internal/avro"
)

// AvroType is the one schema type there is.
const AvroType = "AVRO"

// Parser parses schemas and compares them, and remembers what it found as long
// as there is room. Its answers depend on nothing but what it is asked. Any
// number of goroutines may use one.
type Parser struct {
	limits   avro.Limits
	schemas  *cache[*parsed]
	verdicts *cache[avro.Verdict]
}

// parsed is a schema and what it was parsed of.
type parsed struct {
	schema *avro.Schema
	key    digest
	refs   []Reference
	text   string // canonical
}

// NewParser returns a parser that keeps at most about so many bytes of parsed
// schemas, and as many of verdicts.
func NewParser(limits avro.Limits, cacheBytes int) *Parser {
	return &Parser{
		limits: limits, schemas: newCache[*parsed](cacheBytes),
		verdicts: newCache[avro.Verdict](cacheBytes),
	}
}

// way says how a text is read.
type way struct {
	mode      avro.Mode
	normalize bool
	// fresh is for schemas that are being registered: what they refer to must
	// not be deleted.
	fresh bool
}

// parsedWeight is how many bytes a parsed schema takes for each of its text,
// roughly.
const parsedWeight = 12

// parse reads a schema in the context of a subject.
func (p *Parser) parse(s *State, in Name, text string, refs []Reference, w way) (*parsed, error) {
	refs, outside, err := p.resolve(s, in, refs, w.fresh)
	if err != nil {
		return nil, err
	}
	key := parseKey(text, refs, outside, w)
	if known, ok := p.schemas.get(key); ok {
		return known, nil
	}
	texts := make([]string, len(outside))
	bytes := len(text) * parsedWeight
	for i, c := range outside {
		texts[i] = c.Text
		bytes += len(c.Text) * parsedWeight
	}
	schema, err := avro.Parse(text, avro.Options{Mode: w.mode, References: texts, Limits: p.limits})
	if err != nil {
		return nil, err
	}
	if w.normalize {
		if schema, err = schema.Normalize(); err != nil {
			return nil, err
		}
		refs = sortedReferences(refs)
	}
	made := &parsed{schema, key, refs, schema.Canonical()}
	p.schemas.put(key, made, bytes)
	return made, nil
}

func parseKey(text string, refs []Reference, outside []*Content, w way) (key digest) {
	sum := sha256.New()
	flags := byte(w.mode)
	if w.normalize {
		flags |= 1 << 7
	}
	_, _ = sum.Write([]byte{flags})
	_ = binary.Write(sum, binary.BigEndian, int64(len(text)))
	write(sum, text)
	for _, r := range refs {
		_, _ = fmt.Fprintf(sum, "%q %q %d;", r.Name, r.Subject, r.Version)
	}
	for _, c := range outside {
		_, _ = sum.Write(c.GUID[:])
	}
	sum.Sum(key[:0])
	return key
}

func sortedReferences(refs []Reference) []Reference {
	return slices.Compact(slices.SortedFunc(slices.Values(refs), func(a, b Reference) int {
		if n := strings.Compare(a.Subject, b.Subject); n != 0 {
			return n
		}
		if a.Version != b.Version {
			return int(int64(a.Version) - int64(b.Version))
		}
		return strings.Compare(a.Name, b.Name)
	}))
}

// stored reads a schema that is registered.
func (p *Parser) stored(s *State, in Name, c *Content) (*parsed, error) {
	return p.parse(s, in, c.Text, c.References, way{mode: avro.Lenient})
}

// resolver collects the schemas that one refers to, each before those that use
// it. The name of a reference only tells references apart.
type resolver struct {
	state *State
	fresh bool
	max   int
	names map[string]bool
	found []*Content
}

// resolve returns the references with their versions filled in, and what they
// stand for.
func (p *Parser) resolve(
	s *State, in Name, refs []Reference, fresh bool,
) ([]Reference, []*Content, error) {
	if len(refs) == 0 {
		return nil, nil, nil
	}
	r := &resolver{state: s, fresh: fresh, max: p.limits.ReferenceCount, names: map[string]bool{}}
	if r.max == 0 {
		r.max = avro.DefaultLimits().ReferenceCount
	}
	exact, err := r.walk(in, refs)
	return exact, r.found, err
}

func (r *resolver) walk(in Name, refs []Reference) ([]Reference, error) {
	exact := slices.Clone(refs)
	for i, ref := range refs {
		if ref.Name == "" || ref.Version < 1 && ref.Version != Latest {
			return nil, fmt.Errorf("the reference %d needs a name, a subject and a version", i+1)
		}
		to := in.In(ref.Subject)
		v, ok := r.state.Subject(to.String()).Find(ref.Version)
		if !ok || r.fresh && v.Deleted {
			//nolint:staticcheck // the capital is Confluent's
			return nil, fmt.Errorf("No schema reference found for subject \"%s\" and version %d",
				visible(to.String()), ref.Version)
		}
		exact[i].Version = v.Version
		if r.names[ref.Name] {
			continue
		}
		if len(r.names) >= r.max {
			return nil, fmt.Errorf("more than %d references in all", r.max)
		}
		r.names[ref.Name] = true
		if _, err := r.walk(to, v.Content.References); err != nil {
			return nil, err
		}
		r.found = append(r.found, v.Content)
	}
	return exact, nil
}

// check compares a schema with one older version.
func (p *Parser) check(
	level avro.Level, next, old *parsed, version Version,
) avro.Verdict {
	sum := sha256.New()
	_, _ = sum.Write([]byte{byte(level)})
	_ = binary.Write(sum, binary.BigEndian, int32(version))
	_, _ = sum.Write(next.key[:])
	_, _ = sum.Write(old.key[:])
	var key digest
	sum.Sum(key[:0])
	if known, ok := p.verdicts.get(key); ok {
		return known
	}
	verdict := level.Check(next.schema, []avro.Version{{
		Number: int32(version), Schema: old.schema,
	}})
	bytes := 0
	for _, m := range verdict.Messages {
		bytes += len(m) + 16
	}
	p.verdicts.put(key, verdict, bytes)
	return verdict
}

// invalid says that a schema cannot be registered.
func invalid(r Registration, cause error) error {
	if _, ok := ProblemOf(cause); ok {
		return cause
	}
	refs := make([]string, len(r.References))
	for i, ref := range r.References {
		refs[i] = fmt.Sprintf("{name='%s', subject='%s', version=%d}",
			visible(ref.Name), visible(ref.Subject), ref.Version)
	}
	list := "[" + strings.Join(refs, ", ") + "]"
	return InvalidSchema.With(fmt.Sprintf("Invalid schema {subject=%s,version=%d,id=%d,"+
		"schemaType=AVRO,references=%s,schema=%s} with refs %s of type AVRO, details: %s",
		visible(Qualify(r.Subject)), r.Version, r.ID, list, excerpt(r.Text), list, cause))
}

const excerptBytes = 1024

// excerpt bounds how much of a schema an error quotes.
func excerpt(text string) string {
	if len(text) <= excerptBytes {
		return text
	}
	return strings.ToValidUTF8(text[:excerptBytes], "") + "..."
}

var errEndless = errors.New("a record holds itself in every value")
