package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// recordCountMax is the API's own limit on the records of a request. It is
	// checked while reading, so that a body of braces cannot fill the memory.
	recordCountMax = 10_000
	// headerCountMax is the API's own limit on the headers of a record.
	headerCountMax = 64
)

// pathError is an error at a place of a request, such as records[3].value.
type pathError struct {
	path string
	err  error
}

// Error returns the place and what is wrong there.
func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }

// Unwrap returns what is wrong.
func (e *pathError) Unwrap() error { return e.err }

// within puts a place in front of that of an error.
func within(path string, err error) error {
	if inner, ok := errors.AsType[*pathError](err); ok {
		join := "."
		if strings.HasPrefix(inner.path, "[") {
			join = ""
		}
		return &pathError{path: path + join + inner.path, err: inner.err}
	}
	return &pathError{path: path, err: err}
}

// unknownField is the error of a name that an object does not have.
type unknownField struct {
	name  string
	known string
}

// Error names the field and those that there are.
func (e *unknownField) Error() string { return "unknown field; there are " + e.known }

// asFault turns an error of reading into the fault that the caller sees.
func asFault(err error) error {
	if _, ok := fault.Of(err); ok || err == nil {
		return err
	}
	if at, ok := errors.AsType[*pathError](err); ok {
		return fault.InvalidRequest.With().At(at.path, at.err.Error())
	}
	return fault.InvalidRequest.Because("the body is not JSON: %s", err)
}

// fields reads an object whose names are known. Each names its bit, by which a
// second occurrence is found; two spellings of one field share it.
type fields struct {
	bits  map[string]uint
	known string
	nulls uint // the bits of the fields to which null is a value
}

// fieldsOf makes the table of an object, from names in the order in which an
// error lists them. A second spelling follows its first after a slash.
func fieldsOf(names ...string) fields {
	f := fields{bits: map[string]uint{}}
	var first []string
	for bit, spellings := range names {
		for i, name := range strings.Split(spellings, "/") {
			f.bits[name] = uint(bit)
			if i == 0 {
				first = append(first, name)
			}
		}
	}
	f.known = strings.Join(first, ", ")
	return f
}

// keepNull makes null a value of the fields of the names, which set has to read.
func (f fields) keepNull(names ...string) fields {
	for _, name := range names {
		f.nulls |= 1 << f.bits[name]
	}
	return f
}

// read calls set for each member of the next object with the number of its
// field; set must read the value. Members that are null are skipped, as in
// protobuf's JSON mapping, unless keepNull named them.
func (f *fields) read(s *jsonscan.Scanner, set func(field uint) error) error {
	if err := s.EnterObject(); err != nil {
		return err
	}
	seen := uint(0)
	for {
		name, more, err := s.Key()
		if !more || err != nil {
			return err
		}
		bit, ok := f.bits[string(name)]
		if !ok {
			text := clip(string(name))
			return within(text, &unknownField{name: text, known: f.known})
		}
		if seen&(1<<bit) != 0 {
			return within(string(name), errors.New("occurs twice"))
		}
		seen |= 1 << bit
		if s.Kind() == jsonscan.Null && f.nulls&(1<<bit) == 0 {
			err = s.Null()
		} else {
			err = set(bit)
		}
		if err != nil {
			return within(f.name(bit), err)
		}
	}
}

// name returns the first spelling of a field.
func (f *fields) name(bit uint) string {
	return strings.Split(f.known, ", ")[bit]
}

var produceFields = fieldsOf("records", "record_batch/recordBatch", "partition", "acks",
	"compression", "producer_id/producerId", "producer_epoch/producerEpoch",
	"base_sequence/baseSequence", "expected_offset/expectedOffset", "timeout", "topic",
	"idempotency_key/idempotencyKey")

// decodeProduce reads the body of POST /v1/topics/{topic}/records with a reader
// of records. The message shares nothing with the text.
func decodeProduce(text []byte, m *sluicev1.ProduceRequest, records *recordReader) error {
	s := records.reset(text, &nativeRecords)
	records.reserve(len(text))
	err := produceFields.read(s, func(field uint) (err error) {
		switch field {
		case 0:
			m.Records, err = records.list()
		case 1:
			m.RecordBatch, err = s.Base64([]byte{})
		case 2:
			m.Partition, err = int32Of(s)
		case 3:
			m.Acks, err = enumOf[sluicev1.Acks](s)
		case 4:
			m.Compression, err = enumOf[sluicev1.Compression](s)
		case 5:
			m.ProducerId, err = int64Of(s)
		case 6:
			m.ProducerEpoch, err = int32Of(s)
		case 7:
			m.BaseSequence, err = int32Of(s)
		case 8:
			m.ExpectedOffset, err = int64Of(s)
		case 9:
			m.Timeout, err = durationOf(s)
		case 10:
			var topic []byte
			topic, err = s.Text()
			m.Topic = string(topic)
		case 11:
			var key []byte
			key, err = s.Text()
			m.IdempotencyKey = string(key)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.End()
}

// recordShape is how a surface writes a record.
type recordShape struct {
	record fields // key, value, headers, partition, timestamp
	header fields // name, value
	time   func(s *jsonscan.Scanner) (time.Time, error)
	datum  func(d *recordReader) ([]byte, error) // reads a key or a value
}

var nativeRecords = recordShape{
	record: fieldsOf("key", "value", "headers", "partition", "timestamp"),
	header: fieldsOf("name", "value"),
	time:   timeOfText,
	datum:  (*recordReader).base64,
}

// namesKeptMax is how many names of headers a reader keeps, so that those of
// every record are the same string.
const namesKeptMax = 16

// recordReader reads records. All that it makes of them is in memory of its own,
// which may be used again for another request once nobody holds on to the
// records.
type recordReader struct {
	s          *jsonscan.Scanner // scan, or that of a larger text
	scan       jsonscan.Scanner
	shape      *recordShape
	bytes      []byte // of keys and values; never nil
	records    slab[sluicev1.ProduceRecord]
	headers    slab[sluicev1.Header]
	partitions slab[int32]
	stamps     slab[timestamppb.Timestamp]
	names      []string
	named      int // bytes of the names that are not among them
}

// reset makes the reader that of another text. What it returned before is void.
func (d *recordReader) reset(text []byte, shape *recordShape) *jsonscan.Scanner {
	d.back(recordMark{})
	d.scan.Reset(text)
	d.s, d.shape = &d.scan, shape
	return d.s
}

// reserve makes room for all that the text can hold in base64.
func (d *recordReader) reserve(textBytes int) {
	if need := textBytes/4*3 + 3; cap(d.bytes) < need {
		d.bytes = make([]byte, 0, need)
	}
}

// isLarge reports whether a reader holds more than a pool should.
func (d *recordReader) isLarge() bool {
	return cap(d.bytes) > pooledBytesMax || d.records.count() > pooledRecordsMax ||
		d.headers.count() > pooledRecordsMax
}

// recordMark is how far a reader has come.
type recordMark struct{ bytes, named, records, headers, partitions, stamps int }

func (d *recordReader) mark() recordMark {
	return recordMark{
		len(d.bytes), d.named, d.records.used, d.headers.used, d.partitions.used, d.stamps.used,
	}
}

// size returns how many bytes the text of the records has come to.
func (m recordMark) size() int { return m.bytes + m.named }

func (d *recordReader) size() int { return d.mark().size() }

// back forgets what was read since a mark.
func (d *recordReader) back(to recordMark) {
	if d.bytes == nil {
		d.bytes = []byte{}
	}
	d.bytes, d.named = d.bytes[:to.bytes], to.named
	d.records.cut(to.records, (*sluicev1.ProduceRecord).Reset)
	d.headers.cut(to.headers, (*sluicev1.Header).Reset)
	d.stamps.cut(to.stamps, (*timestamppb.Timestamp).Reset)
	d.partitions.used = to.partitions
}

// since returns the bytes that were added, of which nobody else can add more.
func (d *recordReader) since(start int) []byte {
	return d.bytes[start:len(d.bytes):len(d.bytes)]
}

// list reads an array of records.
func (d *recordReader) list() ([]*sluicev1.ProduceRecord, error) {
	if err := d.s.EnterArray(); err != nil {
		return nil, err
	}
	for {
		more, err := d.s.Element()
		if !more || err != nil {
			return d.records.from(0), err
		}
		at := d.records.used
		if at == recordCountMax {
			return nil, fault.RequestTooLarge.With("limit", recordCountMax, "setting",
				"records of one request")
		}
		if err := d.record(d.records.next()); err != nil {
			return nil, within("["+strconv.Itoa(at)+"]", err)
		}
	}
}

// record reads one record.
func (d *recordReader) record(m *sluicev1.ProduceRecord) error {
	return d.shape.record.read(d.s, func(field uint) (err error) {
		switch field {
		case 0:
			m.Key, err = d.shape.datum(d)
		case 1:
			m.Value, err = d.shape.datum(d)
		case 2:
			m.Headers, err = d.headerList()
		case 3:
			m.Partition, err = d.partition()
		case 4:
			m.Timestamp, err = d.timestamp()
		}
		return err
	})
}

// base64 reads bytes. Empty is not nil.
func (d *recordReader) base64() ([]byte, error) {
	start := len(d.bytes)
	grown, err := d.s.Base64(d.bytes)
	if err != nil {
		return nil, err
	}
	d.bytes = grown
	return d.since(start), nil
}

// partition reads the number of a partition.
func (d *recordReader) partition() (*int32, error) {
	number, err := d.s.Int(32)
	partition := d.partitions.next()
	*partition = int32(number)
	return partition, err
}

// timestamp reads a time as the shape writes it.
func (d *recordReader) timestamp() (*timestamppb.Timestamp, error) {
	at, err := d.shape.time(d.s)
	if err != nil {
		return nil, err
	}
	stamp := d.stamps.next()
	stamp.Seconds, stamp.Nanos = at.Unix(), int32(at.Nanosecond())
	return stamp, stamp.CheckValid()
}

func (d *recordReader) headerList() ([]*sluicev1.Header, error) {
	if err := d.s.EnterArray(); err != nil {
		return nil, err
	}
	start := d.headers.used
	for {
		more, err := d.s.Element()
		at := d.headers.used - start
		if !more || err != nil {
			return d.headers.from(start), err
		}
		if at == headerCountMax {
			return nil, fmt.Errorf("more than %d headers", headerCountMax)
		}
		header, named := d.headers.next(), false
		err = d.shape.header.read(d.s, func(field uint) (err error) {
			if field == 1 {
				header.Value, err = d.base64()
				return err
			}
			name, err := d.s.Text()
			header.Name, named = d.name(name), true
			return err
		})
		if err == nil && !named {
			err = missing(d.shape.header.name(0))
		}
		if err != nil {
			return nil, within("["+strconv.Itoa(at)+"]", err)
		}
	}
}

// name returns a text as a string, the same one for what came before.
func (d *recordReader) name(text []byte) string {
	for _, known := range d.names {
		if known == string(text) {
			return known
		}
	}
	name := string(text)
	if len(d.names) < namesKeptMax && len(name) <= 64 {
		d.names = append(d.names, name)
		return name
	}
	d.named += len(name)
	return name
}

func int32Of(s *jsonscan.Scanner) (*int32, error) {
	value, err := s.Int(32)
	narrow := int32(value)
	return &narrow, err
}

func int64Of(s *jsonscan.Scanner) (*int64, error) {
	value, err := s.Int(64)
	return &value, err
}

// enumOf reads an enum by name or number.
func enumOf[E interface {
	~int32
	Descriptor() protoreflect.EnumDescriptor
}](s *jsonscan.Scanner) (E, error) {
	var zero E
	values := zero.Descriptor().Values()
	if s.Kind() == jsonscan.Number {
		number, err := s.Int(32)
		if err == nil && values.ByNumber(protoreflect.EnumNumber(number)) == nil {
			err = fmt.Errorf("%d is none of its numbers", number)
		}
		return E(number), err
	}
	text, err := s.Text()
	if err != nil {
		return zero, err
	}
	value := values.ByName(protoreflect.Name(text))
	if value == nil {
		var names []string
		for i := range values.Len() {
			names = append(names, string(values.Get(i).Name()))
		}
		return zero, fmt.Errorf("%q is none of %s", clip(string(text)),
			strings.Join(names[1:], ", "))
	}
	return E(value.Number()), nil
}

// timeOfText reads an RFC 3339 time of the years 1 to 9999.
func timeOfText(s *jsonscan.Scanner) (at time.Time, err error) {
	text, err := s.Text()
	if err != nil {
		return at, err
	}
	if err := at.UnmarshalText(text); err != nil { // which allocates nothing, and is strict
		at, err = time.Parse(time.RFC3339Nano, string(text))
		if err != nil || bytes.IndexByte(text, ',') >= 0 {
			return at, fmt.Errorf("%q is no RFC 3339 time such as 2026-01-01T00:00:00Z",
				clip(string(text)))
		}
	}
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return at, fmt.Errorf("%q is no time of the years 1 to 9999", clip(string(text)))
	}
	return at, nil
}

// timeOfMillis reads a time in milliseconds since 1970.
func timeOfMillis(s *jsonscan.Scanner) (at time.Time, err error) {
	value, err := s.Int(64)
	if err != nil {
		return at, err
	}
	at = time.UnixMilli(value)
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return at, fmt.Errorf("%d milliseconds are no time of the years 1 to 9999", value)
	}
	return at, nil
}

// durationOf reads a span such as 1.5s or 500ms.
func durationOf(s *jsonscan.Scanner) (*durationpb.Duration, error) {
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return nil, fmt.Errorf("%q is no duration such as 30s or 500ms", clip(string(text)))
	}
	return durationpb.New(span), nil
}
