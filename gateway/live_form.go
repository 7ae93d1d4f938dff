package gateway

import (
	"strconv"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// idEveryCount is up to how many partitions every event has an id. Beyond, only
// the last event of each batch has one, because an id names all partitions: a
// caller that resumes may then see records of the last batch again.
const idEveryCount = 16

// retryMilliseconds is how long a browser waits before it connects again.
const retryMilliseconds = 2000

// form is how a live stream is written: server-sent events (the HTML standard,
// section 9.2) or lines of JSON, which are the messages of a WebSocket too.
type form struct {
	number    int // in forms
	media     string
	heartbeat []byte
	closing   []byte // sent when the gateway stops
	isEvents  bool
}

const formCount = 2

var eventForm = form{
	number: 0, media: typeEvents, isEvents: true,
	heartbeat: []byte(": heartbeat\n\n"),
	closing:   []byte(": the node is stopping\n\n"),
}

// An empty line is no value, and passes every reader of lines of JSON.
var lineForm = form{number: 1, media: typeLines, heartbeat: []byte("\n")}

var forms = [formCount]*form{&eventForm, &lineForm}

func formOf(media string) *form {
	if media == typeLines {
		return &lineForm
	}
	return &eventForm
}

// opening returns what a stream begins with: the time after which to connect
// again, and what was lost since the caller's last event.
func (f *form) opening(gaps []gap) []byte {
	var dst []byte
	if f.isEvents {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, retryMilliseconds, 10)
		dst = append(dst, "\n\n"...)
	}
	for _, lost := range gaps {
		dst = f.gap(dst, lost)
	}
	return dst
}

// gap appends the event of records that the log no longer holds.
func (f *form) gap(dst []byte, lost gap) []byte {
	text := append([]byte(`{"topic":`), appendText(nil, lost.topic)...)
	text = append(text, `,"partition":`...)
	text = strconv.AppendInt(text, int64(lost.partition), 10)
	text = append(text, `,"from_offset":`...)
	text = appendInt64(text, lost.from)
	text = append(text, `,"next_offset":`...)
	text = appendInt64(text, lost.next)
	return f.named(dst, "gap", append(text, '}'))
}

// named appends an event that is no record: `event: name` with its data, or a
// line {"name":data}.
func (f *form) named(dst []byte, name string, data []byte) []byte {
	if f.isEvents {
		dst = append(dst, "event: "...)
		dst = append(dst, name...)
		dst = append(dst, "\ndata: "...)
		dst = append(dst, data...)
		return append(dst, "\n\n"...)
	}
	dst = append(dst, `{"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	dst = append(dst, data...)
	return append(dst, "}\n"...)
}

// failure returns the event of an error that ends the stream.
func (f *form) failure(problem []byte) []byte { return f.named(nil, "error", problem) }

// passed returns what tells a caller with a filter how far the stream is, so
// that it need not read again what it did not want: an id without an event
// (which a browser keeps), or a line {"position":id}.
func (f *form) passed(at *position) []byte {
	if f.isEvents {
		return append(at.appendID([]byte("id: ")), "\n\n"...)
	}
	return f.named(nil, "position", append(at.appendID([]byte{'"'}), '"'))
}

// events appends the records of a chunk that follow the position and pass the
// filter, and moves the position behind the chunk.
func (f *form) events(dst []byte, at *position, c *news, only *filter) []byte {
	wanted := -1
	for i := len(c.records) - 1; i >= 0 && wanted < 0; i-- {
		if c.records[i].GetOffset() >= at.next[c.index] && only.takes(c.records[i]) {
			wanted = i
		}
	}
	for i, record := range c.records[:wanted+1] {
		if record.GetOffset() < at.next[c.index] || i < wanted && !only.takes(record) {
			continue
		}
		at.next[c.index] = record.GetOffset() + 1
		if i == len(c.records)-1 {
			at.next[c.index] = c.next
		}
		id := i == wanted || len(at.partitions) <= idEveryCount
		dst = f.event(dst, at, c.partition, record, id)
	}
	at.next[c.index] = max(at.next[c.index], c.next)
	return dst
}

// event appends a record. With id, the caller can resume after it.
func (f *form) event(
	dst []byte, at *position, partition int32, record *sluicev1.Record, id bool,
) []byte {
	if f.isEvents && id {
		dst = append(dst, "id: "...)
		dst = at.appendID(dst)
		dst = append(dst, '\n')
	}
	if f.isEvents {
		dst = append(dst, "data: "...)
	}
	dst = append(dst, `{"topic":`...)
	dst = appendText(dst, at.topic)
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, ',')
	dst = appendRecord(dst, record)
	dst = append(dst, "}\n"...)
	if f.isEvents {
		dst = append(dst, '\n')
	}
	return dst
}
