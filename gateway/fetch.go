package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// fetchBytesDefault is the API's own default of max_bytes.
	fetchBytesDefault = 1 << 20
	// recordBytesGuess is how large the records of a partition are taken to be
	// before one was seen.
	recordBytesGuess = 1 << 10
	// fetchBytesMin is the least that is asked for at once.
	fetchBytesMin = 16 << 10
	// writtenBytesMax is how much of an answer is put together before it is sent.
	// A larger one goes out in pieces of about that: what a caller who does not
	// read holds of the node must not grow with what it asked for.
	writtenBytesMax = 256 << 10
)

// answers holds buffers for answers of the usual size.
var answers = sync.Pool{New: func() any { return new([]byte) }}

// pooledAnswerMax is the largest buffer that is kept.
const pooledAnswerMax = 512 << 10

// outtake reads records of one partition for one request, as the batches that
// are stored, and writes them out as JSON with no message in between.
type outtake struct {
	g       *Gateway
	w       *response
	r       *http.Request
	request sluicev1.FetchRequest
	wait    time.Duration

	records, recordsMax int
	bytes, bytesMax     int
	next                int64
	buffer              []byte
	sent                bool // part of the answer
}

// fetchNative answers GET /v1/topics/{topic}/partitions/{partition}/records. It
// does what the generated code would, without its cost; the rare forms are left
// to that.
func (g *Gateway) fetchNative(
	w *response, r *http.Request, p params, generated http.Handler,
) {
	o := &outtake{g: g, w: w, r: r, recordsMax: math.MaxInt, bytesMax: fetchBytesDefault}
	rare, err := o.read(p)
	if rare {
		w.quiet = true // grpc-gateway would write an error to stderr
		generated.ServeHTTP(w, r)
		return
	}
	if err == nil {
		err = o.answer(outgoing(r))
	}
	if err == nil {
		return
	}
	if o.sent {
		panic(http.ErrAbortHandler) // the answer cannot be completed
	}
	g.fail(w, r, err)
}

// read takes in the path and the query, which checkInput has looked at. A rare
// request is one that this code does not answer.
func (o *outtake) read(p params) (rare bool, err error) {
	partition, err := jsonscan.ParseInt([]byte(p["partition"]), 32)
	if err != nil {
		return false, fault.InvalidRequest.With().At("partition", err.Error())
	}
	o.request.Topic, o.request.Partition = p["topic"], int32(partition)
	for name, values := range callOf(o.r).query {
		var number int64
		switch name {
		case "offset", "max_records", "maxRecords", "max_bytes", "maxBytes":
			if number, err = jsonscan.ParseInt([]byte(values[0]), 64); err != nil {
				return false, fault.InvalidRequest.With().At(name, err.Error())
			}
		}
		switch name {
		case "offset":
			o.request.Offset = number
		case "max_records", "maxRecords":
			o.request.MaxRecords = int32(number)
		case "max_bytes", "maxBytes":
			o.request.MaxBytes = int32(number)
		case "max_wait", "maxWait":
			if o.wait, err = time.ParseDuration(values[0]); err != nil {
				return false, fault.InvalidRequest.With().At(name, strconv.Quote(clip(values[0]))+
					" is no duration such as 500ms or 1.5s")
			}
		default: // format, isolation_level
			return true, nil
		}
	}
	o.next = o.request.GetOffset()
	if n := o.request.GetMaxRecords(); n > 0 {
		o.recordsMax = int(n)
	}
	if n := o.request.GetMaxBytes(); n > 0 {
		o.bytesMax = int(n)
	}
	return false, nil
}

// answer reads until it has what was asked for or the log ends, and writes it.
func (o *outtake) answer(ctx context.Context) error {
	pooled, _ := answers.Get().(*[]byte)
	defer func() {
		if cap(o.buffer) <= pooledAnswerMax {
			*pooled = o.buffer[:0]
			answers.Put(pooled)
		}
	}()
	o.buffer = append((*pooled)[:0], `{"records":[`...)
	o.request.Format = sluicev1.RecordFormat_RECORD_FORMAT_BATCHES
	deadline := time.Now().Add(o.wait)
	var last *sluicev1.FetchResponse
	for {
		o.request.Offset = o.next
		asked := o.request.GetMaxBytes()
		if asked >= 0 && o.request.GetMaxRecords() >= 0 { // else the broker says what is wrong
			o.request.MaxBytes = int32(o.portion())
		}
		o.request.MaxWait = nil
		if o.wait != 0 && o.records == 0 {
			o.request.MaxWait = durationpb.New(min(o.wait, max(time.Until(deadline), 0)))
		}
		page, err := o.g.streams.Fetch(ctx, &o.request)
		if err != nil && o.records > 0 && ctx.Err() == nil {
			o.finish(last) // the caller meets the error where it reads on
			return nil
		}
		if err != nil {
			return err
		}
		last = page
		before := o.next
		full, err := o.take(page)
		if err != nil {
			return err
		}
		if len(page.GetRecordBatches()) > 0 && o.next == before && !full {
			return o.damaged(errors.New("the batches end before the offset"))
		}
		atEnd := len(page.GetRecordBatches()) == 0 || o.next >= page.GetHighWatermark()
		waits := o.records == 0 && len(page.GetRecordBatches()) > 0 // of markers only
		if full || atEnd && !waits {
			o.finish(page)
			return nil
		}
	}
}

// portion returns how many bytes to ask for: about as many as the records that
// are still wanted take, so that a request for few records reads little.
func (o *outtake) portion() int {
	left := o.bytesMax - o.bytes
	each := recordBytesGuess
	if o.records > 0 {
		each = o.bytes/o.records + 1
	}
	if wanted := o.recordsMax - o.records; wanted < left/each {
		left = max(wanted*each*9/8, fetchBytesMin)
	}
	return min(max(left, 1), o.bytesMax)
}

// take writes the records of a page from o.next on. Full says that the answer
// has as many as it may.
func (o *outtake) take(page *sluicev1.FetchResponse) (full bool, err error) {
	rest := page.GetRecordBatches()
	for len(rest) > 0 {
		h, err := batch.ParseHeader(rest)
		if err != nil || h.Bytes() > len(rest) {
			return false, o.damaged(err)
		}
		if !h.Control() {
			full, err := o.takeBatch(rest[:h.Bytes()])
			if err != nil || full {
				return full, err
			}
		}
		o.next = max(o.next, h.NextOffset())
		rest = rest[h.Bytes():]
	}
	return o.records >= o.recordsMax || o.bytes >= o.bytesMax, nil
}

func (o *outtake) takeBatch(b []byte) (full bool, err error) {
	for record, err := range batch.Records(b, batch.StoredLimits()) {
		if err != nil {
			return false, o.damaged(err)
		}
		if record.Offset < o.next {
			continue
		}
		size := len(record.Key) + len(record.Value)
		for _, h := range record.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if o.records > 0 && (o.records >= o.recordsMax || o.bytes+size > o.bytesMax) {
			return true, nil
		}
		if o.records > 0 {
			o.buffer = append(o.buffer, ',')
		}
		o.buffer = append(appendStored(append(o.buffer, '{'), &record), '}')
		o.records, o.bytes, o.next = o.records+1, o.bytes+size, record.Offset+1
		if len(o.buffer) > writtenBytesMax {
			o.send()
		}
	}
	return false, nil
}

// send sends what there is of an answer that is too large to be held.
func (o *outtake) send() {
	if !o.sent {
		o.w.Header().Set("Content-Type", typeJSON)
	}
	o.sent = true
	_, _ = o.w.Write(o.buffer) // the caller is gone; there is nobody to tell
	o.buffer = o.buffer[:0]
}

// finish writes the end of the answer.
func (o *outtake) finish(page *sluicev1.FetchResponse) {
	o.buffer = append(o.buffer, `],"high_watermark":`...)
	o.buffer = appendInt64(o.buffer, page.GetHighWatermark())
	o.buffer = append(o.buffer, `,"log_start_offset":`...)
	o.buffer = appendInt64(o.buffer, page.GetLogStartOffset())
	o.buffer = append(o.buffer, `,"next_offset":`...)
	o.buffer = appendInt64(o.buffer, o.next)
	o.buffer = append(o.buffer, '}')
	if o.sent {
		o.send()
		return
	}
	o.g.write(o.w, o.r, http.StatusOK, o.buffer)
}

// damaged is the error of a stored batch that cannot be decoded.
func (o *outtake) damaged(err error) error {
	return fault.CorruptLog.With("topic", o.request.GetTopic(), "partition",
		o.request.GetPartition(), "offset", o.next).Because("%v", err)
}

// appendStored writes the members of a stored record, as appendRecord does those
// of a message.
func appendStored(dst []byte, r *batch.Record) []byte {
	dst = append(dst, `"offset":`...)
	dst = appendInt64(dst, r.Offset)
	if r.Timestamp < 0 {
		dst = append(dst, `,"timestamp":null`...)
	} else {
		dst = append(dst, `,"timestamp":`...)
		dst = appendMillis(dst, r.Timestamp/1000, int(r.Timestamp%1000))
	}
	dst = append(dst, `,"key":`...)
	dst = appendBytes(dst, r.Key)
	dst = append(dst, `,"value":`...)
	dst = appendBytes(dst, r.Value)
	dst = append(dst, `,"headers":[`...)
	for i, header := range r.Headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendText(dst, header.Key)
		dst = append(dst, `,"value":`...)
		dst = appendBytes(dst, header.Value)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
