package gateway

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// appendFetchResponse writes an answer to a fetch. It differs from protojson's
// in that a null key or value is written as null, and batches that were not
// asked for not at all.
func appendFetchResponse(dst []byte, m *sluicev1.FetchResponse) []byte {
	dst = grow(dst, m)
	dst = append(dst, `{"records":[`...)
	for i, record := range m.GetRecords() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendRecord(dst, record)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if len(m.GetRecordBatches()) > 0 {
		dst = append(dst, `,"record_batches":`...)
		dst = appendBytes(dst, m.GetRecordBatches())
	}
	dst = append(dst, `,"high_watermark":`...)
	dst = appendInt64(dst, m.GetHighWatermark())
	dst = append(dst, `,"log_start_offset":`...)
	dst = appendInt64(dst, m.GetLogStartOffset())
	dst = append(dst, `,"next_offset":`...)
	dst = appendInt64(dst, m.GetNextOffset())
	return append(dst, '}')
}

// grow makes room for the whole answer at once.
func grow(dst []byte, m *sluicev1.FetchResponse) []byte {
	size := 128 + base64.StdEncoding.EncodedLen(len(m.GetRecordBatches()))
	for _, record := range m.GetRecords() {
		size += 112 + (len(record.GetKey())+len(record.GetValue())+4)/3*4
		for _, header := range record.GetHeaders() {
			size += 32 + len(header.GetName()) + (len(header.GetValue())+2)/3*4
		}
	}
	if cap(dst)-len(dst) >= size {
		return dst
	}
	return append(make([]byte, 0, len(dst)+size), dst...)
}

// appendRecord writes the members of a record, without the braces.
func appendRecord(dst []byte, m *sluicev1.Record) []byte {
	dst = append(dst, `"offset":`...)
	dst = appendInt64(dst, m.GetOffset())
	dst = append(dst, `,"timestamp":`...)
	dst = appendTime(dst, m.GetTimestamp())
	dst = append(dst, `,"key":`...)
	dst = appendBytes(dst, m.Key)
	dst = append(dst, `,"value":`...)
	dst = appendBytes(dst, m.Value)
	dst = append(dst, `,"headers":[`...)
	for i, header := range m.GetHeaders() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendText(dst, header.GetName())
		dst = append(dst, `,"value":`...)
		dst = appendBytes(dst, header.Value)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendProduceResponse writes an answer to a produce. Whether that is the first one
// or another is not in it, so that all are the same: see headerReplayed.
func appendProduceResponse(dst []byte, m *sluicev1.ProduceResponse) []byte {
	dst = append(dst, `{"results":[`...)
	for i, result := range m.GetResults() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"partition":`...)
		dst = strconv.AppendInt(dst, int64(result.GetPartition()), 10)
		if result.Offset != nil {
			dst = append(dst, `,"offset":`...)
			dst = appendInt64(dst, result.GetOffset())
		}
		if result.Timestamp != nil {
			dst = append(dst, `,"timestamp":`...)
			dst = appendTime(dst, result.GetTimestamp())
		}
		if result.Error != nil {
			dst = append(dst, `,"error":`...)
			text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(result.GetError())
			if err != nil { // a detail of a type that this binary doesn't know
				text = []byte(`{"message":"the error cannot be described"}`)
			}
			dst = append(dst, text...)
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

// appendInt64 writes a 64-bit integer as a string, as protobuf's JSON mapping
// does, because JavaScript's numbers cannot hold all of them.
func appendInt64(dst []byte, value int64) []byte {
	dst = append(dst, '"')
	dst = strconv.AppendInt(dst, value, 10)
	return append(dst, '"')
}

// appendBytes writes bytes in padded standard base64, and nil as null.
func appendBytes(dst, value []byte) []byte {
	if value == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = jsonscan.EncodeBase64(dst, value)
	return append(dst, '"')
}

// appendTime writes a time as RFC 3339 in UTC with milliseconds, and nil as
// null.
func appendTime(dst []byte, stamp *timestamppb.Timestamp) []byte {
	if stamp == nil {
		return append(dst, "null"...)
	}
	return appendMillis(dst, stamp.GetSeconds(), int(stamp.GetNanos())/int(time.Millisecond))
}

// appendMillis writes a time of whole milliseconds, which it leaves out where
// they are 0.
func appendMillis(dst []byte, seconds int64, millis int) []byte {
	dst = append(dst, '"')
	year, month, day := time.Unix(seconds, 0).UTC().Date()
	if year > 9999 { // of a batch that a client encoded itself
		dst = strconv.AppendInt(dst, int64(year), 10)
	} else {
		dst = appendDigits(dst, year, 4)
	}
	dst = appendDigits(append(dst, '-'), int(month), 2)
	dst = appendDigits(append(dst, '-'), day, 2)
	ofDay := int(((seconds % 86400) + 86400) % 86400)
	dst = appendDigits(append(dst, 'T'), ofDay/3600, 2)
	dst = appendDigits(append(dst, ':'), ofDay/60%60, 2)
	dst = appendDigits(append(dst, ':'), ofDay%60, 2)
	if millis != 0 {
		dst = appendDigits(append(dst, '.'), millis, 3)
	}
	return append(dst, 'Z', '"')
}

// appendDigits writes a number of at most the given number of digits, with
// leading zeros.
func appendDigits(dst []byte, value, digits int) []byte {
	for range digits {
		dst = append(dst, '0')
	}
	for at := len(dst) - 1; value > 0 && at >= len(dst)-digits; at-- {
		dst[at] = byte('0' + value%10)
		value /= 10
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendText writes a string. What is not UTF-8 becomes U+FFFD.
func appendText(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
		}
	}
	return append(dst, '"')
}
