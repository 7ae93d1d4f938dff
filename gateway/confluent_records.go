package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// payloadErrorCode is the number of a key or value that is not of the format
// that was asked for.
const payloadErrorCode = 42206

// recordWriter writes records as v2 does, with their headers and timestamps
// beside.
type recordWriter struct {
	ctx    context.Context
	g      *Gateway
	format *embedded
	strict bool // a record that cannot be decoded fails the request
	text   []byte
	count  int
}

func (g *Gateway) newRecordWriter(ctx context.Context, f *embedded, strict bool) *recordWriter {
	return &recordWriter{ctx: ctx, g: g, format: f, strict: strict, text: []byte{'['}}
}

// add writes one record. An error leaves what was written as it was.
func (w *recordWriter) add(topic string, partition int32, m *sluicev1.Record) error {
	before := len(w.text)
	if w.count > 0 {
		w.text = append(w.text, ',')
	}
	w.text = append(w.text, `{"topic":`...)
	w.text = appendText(w.text, topic)
	var problem string
	for _, side := range []struct {
		name string
		raw  []byte
	}{{"key", m.Key}, {"value", m.Value}} {
		w.text = append(w.text, `,"`+side.name+`":`...)
		reason, err := w.datum(side.raw)
		switch {
		case err != nil:
			w.text = w.text[:before]
			return err
		case reason == "":
			continue
		case problem != "":
			problem += "; "
		}
		problem += side.name + ": " + reason
	}
	if problem != "" && w.strict {
		w.text = w.text[:before]
		return &shaped{
			http.StatusUnprocessableEntity, payloadErrorCode,
			fmt.Sprintf("Payload error. %s-%d at offset %d: %s", topic, partition,
				m.GetOffset(), problem), fault.Unprocessable,
		}
	}
	w.text = append(w.text, `,"partition":`...)
	w.text = strconv.AppendInt(w.text, int64(partition), 10)
	w.text = append(w.text, `,"offset":`...)
	w.text = strconv.AppendInt(w.text, m.GetOffset(), 10)
	w.text = append(w.text, `,"timestamp":`...)
	if m.GetTimestamp() == nil {
		w.text = append(w.text, "null"...)
	} else {
		w.text = strconv.AppendInt(w.text, m.GetTimestamp().AsTime().UnixMilli(), 10)
	}
	w.headers(m.GetHeaders())
	if problem != "" {
		w.text = fmt.Appendf(w.text, `,"error_code":%d,"error":`, payloadErrorCode)
		w.text = appendText(w.text, "Payload error. "+problem)
	}
	w.text = append(w.text, '}')
	w.count++
	return nil
}

// datum writes a key or value: null, its JSON, or its base64 and the reason why
// it is not of the format.
func (w *recordWriter) datum(raw []byte) (reason string, err error) {
	if raw == nil {
		w.text = append(w.text, "null"...)
		return "", nil
	}
	text, err := w.format.datum(w.ctx, w.g, w.text, raw)
	switch {
	case errors.Is(err, errUndecodable):
		w.text = appendBytes(w.text, raw)
		return "not in the " + w.format.name + " format, as it is: " + err.Error(), nil
	case err != nil:
		return "", err
	}
	w.text = text
	return "", nil
}

func (w *recordWriter) headers(headers []*sluicev1.Header) {
	w.text = append(w.text, `,"headers":[`...)
	for i, header := range headers {
		if i > 0 {
			w.text = append(w.text, ',')
		}
		w.text = append(w.text, `{"key":`...)
		w.text = appendText(w.text, header.GetName())
		w.text = append(w.text, `,"value":`...)
		w.text = appendBytes(w.text, header.Value)
		w.text = append(w.text, '}')
	}
	w.text = append(w.text, ']')
}

// end returns the whole array.
func (w *recordWriter) end() []byte { return append(w.text, ']') }

// recordTypes lists what a caller that reads records may accept: a format's own
// types name it, the others stand for binary.
func (g *Gateway) recordTypes() []string {
	types := formatTypes(g.formats())
	kept := types[:0]
	for _, media := range types {
		if media != "application/octet-stream" {
			kept = append(kept, media)
		}
	}
	return kept
}

// answerType notes the type of an answer that holds records of a format.
func answerType(r *http.Request, f *embedded) {
	if c := callOf(r); c.media != typeJSON {
		c.media = f.types[0]
	}
}

// readQuery is the query of a request to read.
type readQuery struct {
	query url.Values
	err   error // of the first parameter that is wrong
}

// queryOf reads a query that holds nothing but parameters of these names.
func queryOf(r *http.Request, names ...string) *readQuery {
	q := knownOf(r, names...)
	for name := range q.query {
		if !slices.Contains(names, name) {
			there := "none"
			if len(names) > 0 {
				there = strings.Join(names, ", ")
			}
			q.fail(clip(name), "no such parameter; there are "+there)
		}
	}
	return q
}

// knownOf reads the parameters of these names, whatever else the query holds. The REST
// Proxy ignores that, so there are callers and proxies that send it: a key of theirs, or
// a number that keeps caches away.
func knownOf(r *http.Request, names ...string) *readQuery {
	q := &readQuery{query: r.URL.Query()}
	for name, values := range q.query {
		if len(values) > 1 && slices.Contains(names, name) {
			q.fail(name, "given more than once")
		}
	}
	return q
}

func (q *readQuery) fail(name, problem string) {
	if q.err == nil {
		q.err = fault.InvalidRequest.With().At(name, problem)
	}
}

// integer returns a parameter, or otherwise where it is absent.
func (q *readQuery) integer(name string, least, otherwise int64) int64 {
	text := q.query.Get(name)
	if text == "" {
		return otherwise
	}
	value, err := jsonscan.ParseInt([]byte(text), 64)
	switch {
	case err != nil:
		q.fail(name, err.Error())
		return otherwise
	case value < least:
		q.fail(name, fmt.Sprintf("is %d, at least %d", value, least))
		return otherwise
	}
	return value
}

// choice reports whether a parameter is the first of two words and not the
// second or absent.
func (q *readQuery) choice(name, yes, no string) bool {
	switch value := q.query.Get(name); value {
	case yes:
		return true
	case no, "":
	default:
		q.fail(name, fmt.Sprintf("is %q, one of %s, %s", clip(value), yes, no))
	}
	return false
}

const (
	// readBytesDefault is what a read returns at most that names no max_bytes.
	readBytesDefault = 4 << 20
	// readBytesMax is the largest max_bytes; a larger one counts as this.
	readBytesMax = 64 << 20
)

// confluentRead reads records of a partition from an offset or a time on, with
// no consumer.
func (g *Gateway) confluentRead(w *response, r *http.Request, p params) {
	text, format, err := g.readPartition(r, p)
	if err != nil {
		confluentMedia(r)
		g.fail(w, r, err)
		return
	}
	answerType(r, format)
	g.write(w, r, http.StatusOK, text)
}

func (g *Gateway) readPartition(r *http.Request, p params) ([]byte, *embedded, error) {
	format := g.formatOf(callOf(r).media)
	partition, err := partitionOf(p)
	if err != nil {
		return nil, nil, err
	}
	q := queryOf(r, "offset", "timestamp", "max_bytes", "timeout", "on_error")
	offset := q.integer("offset", 0, -1)
	at := q.query.Get("timestamp")
	bytesMax := min(q.integer("max_bytes", 0, readBytesDefault), readBytesMax)
	wait := time.Duration(min(q.integer("timeout", 0, 0), g.limits.PollTimeMax.Milliseconds()))
	strict := q.choice("on_error", "fail", "continue")
	if q.err == nil && offset >= 0 && at != "" {
		q.fail("timestamp", "excludes offset")
	}
	if q.err != nil {
		return nil, nil, q.err
	}
	ctx := outgoing(r)
	if offset < 0 {
		if at == "" {
			at = "earliest"
		}
		found, err := g.streams.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
			Topic: p["topic"], Partition: partition, At: at,
		})
		if err != nil {
			return nil, nil, err
		}
		offset = found.GetOffset()
	}
	answer, err := g.streams.Fetch(ctx, &sluicev1.FetchRequest{
		Topic: p["topic"], Partition: partition, Offset: offset,
		MaxBytes: int32(max(bytesMax, 1)), MaxWait: durationpb.New(wait * time.Millisecond),
	})
	if err != nil {
		return nil, nil, err
	}
	out := g.newRecordWriter(ctx, format, strict)
	for _, record := range answer.GetRecords() {
		if err := out.add(p["topic"], partition, record); err != nil {
			if out.count > 0 && errorsStrict(err) {
				break // those before it; the next read begins with it
			}
			return nil, nil, err
		}
	}
	return out.end(), format, nil
}

// errorsStrict reports whether an error is that of a record which cannot be
// decoded.
func errorsStrict(err error) bool {
	fixed, ok := errors.AsType[*shaped](err)
	return ok && fixed.code == payloadErrorCode
}
