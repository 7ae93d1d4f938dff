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
// section 9.2) or lines of JSON.
type form struct {
	media     string
	heartbeat []byte
	closing   []byte // sent when the gateway stops
	events    bool
}

var eventForm = form{
	media: typeEvents, events: true,
	heartbeat: []byte(": heartbeat\n\n"),
	closing:   []byte(": the node is stopping\n\n"),
}

var lineForm = form{media: typeLines}

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
	if f.events {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, retryMilliseconds, 10)
		dst = append(dst, "\n\n"...)
	}
	for _, lost := range gaps {
		text := append([]byte(`{"topic":`), appendText(nil, lost.topic)...)
		text = append(text, `,"partition":`...)
		text = strconv.AppendInt(text, int64(lost.partition), 10)
		text = append(text, `,"from_offset":`...)
		text = appendInt64(text, lost.from)
		text = append(text, `,"next_offset":`...)
		text = appendInt64(text, lost.next)
		dst = f.named(dst, "gap", append(text, '}'))
	}
	return dst
}

// named appends an event that is no record: `event: name` with its data, or a
// line {"name":data}.
func (f *form) named(dst []byte, name string, data []byte) []byte {
	if f.events {
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

// event appends a record. With id, the caller can resume after it.
func (f *form) event(
	dst []byte, at *position, partition int32, record *sluicev1.Record, id bool,
) []byte {
	if f.events && id {
		dst = append(dst, "id: "...)
		dst = at.appendID(dst)
		dst = append(dst, '\n')
	}
	if f.events {
		dst = append(dst, "data: "...)
	}
	dst = append(dst, `{"topic":`...)
	dst = appendText(dst, at.topic)
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, ',')
	dst = appendRecord(dst, record)
	dst = append(dst, "}\n"...)
	if f.events {
		dst = append(dst, '\n')
	}
	return dst
}
