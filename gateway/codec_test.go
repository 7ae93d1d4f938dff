package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/internal/batch"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// FuzzDecodeProduce compares the hand-written reading with protojson's: what it
// takes, protojson takes and reads alike. The opposite does not hold, because
// protojson is laxer.
func FuzzDecodeProduce(f *testing.F) {
	for _, seed := range []string{
		`{"records":[{"key":"a2V5","value":"dmFsdWU=","headers":[{"name":"h","value":""}],` +
			`"partition":1,"timestamp":"2026-01-01T00:00:00.123456789+02:00"},{}]}`,
		`{"producerId":"7","producer_epoch":1,"baseSequence":0,"expected_offset":-1}`,
		`{"topic":"a","record_batch":"AA","acks":"ACKS_NONE","compression":4,"partition":"2"}`,
		`{"records":null,"acks":null}`, `{"records":[{"key":"-_8","value":null}]}`, `{}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	var reader recordReader // one for all, as in the pool: nothing of a text may stay
	f.Fuzz(func(t *testing.T, text []byte) {
		got := &sluicev1.ProduceRequest{}
		if err := decodeProduce(text, got, &reader); err != nil {
			require.Less(t, len(asFault(err).Error()), 600)
			return
		}
		got.Timeout = nil // protojson takes seconds only
		if strings.Contains(string(text), "timeout") {
			return
		}
		want := &sluicev1.ProduceRequest{}
		require.NoError(t, protojson.Unmarshal(text, want), "%q", text)
		require.True(t, proto.Equal(want, got), "%q: %v, want %v", text, got, want)
	})
}

// FuzzDecodeConfluent reads v2 bodies: whatever they are, the answer is records
// or an error of the caller.
func FuzzDecodeConfluent(f *testing.F) {
	f.Add([]byte(`{"records":[{"key":"YQ","headers":[{"key":"h","value":"YQ"}],"timestamp":1}]}`))
	f.Add([]byte(`{"records":[{"partition":-1}],"key_schema":null}`))
	f.Add([]byte(`{"records":[{}],"producer_id":"1","producer_epoch":0,"base_sequence":0,` +
		`"expected_offset":9223372036854775807}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		request := &sluicev1.ProduceRequest{}
		err := decodeConfluent(text, binaryFormat, request, &recordReader{})
		if err == nil {
			require.NotEmpty(t, request.GetRecords())
			require.True(t, json.Valid(text))
			return
		}
		code, _, _ := describe(confluentBodyError(err))
		require.Contains(t, []int{400, 413, 422}, code)
	})
}

// FuzzEventID reads event ids, which callers may send at will.
func FuzzEventID(f *testing.F) {
	f.Add("0:42,1:17")
	f.Add("0:9223372036854775807")
	f.Fuzz(func(t *testing.T, id string) {
		next, err := parseID(id)
		if err != nil {
			return
		}
		p := &position{}
		for partition, offset := range next {
			p.partitions, p.next = append(p.partitions, partition), append(p.next, offset)
		}
		again, err := parseID(string(p.appendID(nil)))
		require.NoError(t, err)
		assert.Equal(t, next, again)
	})
}

// FuzzText writes header names and error texts.
func FuzzText(f *testing.F) {
	f.Add("a\"\\\n\x00\x7f<é\xff\u2028")
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		require.NoError(t, json.Unmarshal(appendText(nil, text), &got))
		assert.Equal(t, string([]rune(text)), got)
	})
}

func TestAnswersAreWhatProtojsonReads(t *testing.T) {
	offset := int64(7)
	at := timestamppb.New(time.UnixMilli(1_767_225_600_123))
	fetched := &sluicev1.FetchResponse{
		Records: []*sluicev1.Record{
			{Offset: 1, Timestamp: at, Key: []byte{}, Value: []byte("\xff\xfe")},
			{
				Offset: 1 << 62, Timestamp: timestamppb.New(time.Unix(-1, 0)),
				Headers: []*sluicev1.Header{{Name: "a\"b", Value: []byte{}}, {Name: ""}},
			},
		},
		RecordBatches: []byte("batch"), HighWatermark: 9, LogStartOffset: 1, NextOffset: 8,
	}
	got := &sluicev1.FetchResponse{}
	require.NoError(t, protojson.Unmarshal(appendFetchResponse(nil, fetched), got))
	assert.True(t, proto.Equal(fetched, got), "%v", got)
	produced := &sluicev1.ProduceResponse{Results: []*sluicev1.ProduceResult{
		{Partition: 3, Offset: &offset, Timestamp: at, Duplicate: true},
		{Partition: 4, Error: &status.Status{Code: 5, Message: "no \"topic\""}},
		{},
	}}
	answer := &sluicev1.ProduceResponse{}
	require.NoError(t, protojson.Unmarshal(appendProduceResponse(nil, produced), answer))
	produced.Results[0].Duplicate = false // a header says that
	assert.True(t, proto.Equal(produced, answer), "%v", answer)
	assert.JSONEq(t, `{"offsets":[
		{"partition":3,"offset":7,"error_code":null,"error":null},
		{"partition":4,"offset":null,"error_code":404,"error":"HTTP 404 Not Found: no \"topic\""},
		{"partition":0,"offset":null,"error_code":null,"error":null}
	],"key_schema_id":null,"value_schema_id":null}`,
		string(appendConfluentOffsets(nil, produced, schemaIDs{})))
}

// FuzzStoredRecords writes records as they are stored, and compares with the
// answer that their messages make.
func FuzzStoredRecords(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "name", []byte{}, int64(1_767_225_600_123), uint8(3))
	f.Add([]byte(nil), []byte("\xff"), "\"\x00\xff", []byte(nil), int64(-1), uint8(0))
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, at int64, n uint8) {
		at = max(at%253_402_300_800_000, -1) // up to the year 9999
		var records []batch.Record
		want := &sluicev1.FetchResponse{HighWatermark: 99, NextOffset: 10 + int64(n) + 1}
		for i := range int64(n) + 1 {
			records = append(records, batch.Record{
				Timestamp: at, Key: key, Value: value,
				Headers: []batch.RecordHeader{{Key: name, Value: header}},
			})
			message := &sluicev1.Record{
				Offset: 10 + i, Key: key, Value: value,
				Headers: []*sluicev1.Header{{Name: name, Value: header}},
			}
			if at >= 0 {
				message.Timestamp = timestamppb.New(time.UnixMilli(at))
			}
			want.Records = append(want.Records, message)
		}
		options := batch.DefaultEncodeOptions()
		options.BaseOffset, options.Codec = 10, batch.Codec(n%5)
		encoded, err := batch.Encode(nil, records, options)
		require.NoError(t, err)
		recorder := httptest.NewRecorder()
		w := &response{ResponseWriter: recorder, limits: &Limits{}}
		o := &outtake{
			g: &Gateway{}, w: w, recordsMax: math.MaxInt, bytesMax: math.MaxInt, next: 11,
			r: httptest.NewRequest(http.MethodGet, "/", nil).WithContext(
				context.WithValue(t.Context(), callKey{}, &call{})),
		}
		want.Records = want.Records[1:]
		o.buffer = append(o.buffer, `{"records":[`...)
		_, err = o.take(&sluicev1.FetchResponse{RecordBatches: encoded})
		require.NoError(t, err)
		o.finish(&sluicev1.FetchResponse{HighWatermark: 99})
		require.Equal(t, string(appendFetchResponse(nil, want)), recorder.Body.String())
	})
}

func TestABodyOfBracesDoesNotFillTheMemory(t *testing.T) {
	many := strings.Repeat("{},", recordCountMax)
	err := decodeProduce([]byte(`{"records":[`+many+`{}]}`), &sluicev1.ProduceRequest{},
		&recordReader{})
	code, _, _ := describe(asFault(err))
	assert.Equal(t, 413, code)
	request := &sluicev1.ProduceRequest{}
	require.NoError(t, decodeProduce([]byte(`{"records":[`+strings.TrimSuffix(many, ",")+`]}`),
		request, &recordReader{}))
	assert.Len(t, request.GetRecords(), recordCountMax)
}

func TestARequestSharesNothingWithItsText(t *testing.T) {
	text := []byte(`{"topic":"t","records":[` +
		`{"key":"YQ==","value":"Yg==","headers":[{"name":"n"}]}]}`)
	request := &sluicev1.ProduceRequest{}
	require.NoError(t, decodeProduce(text, request, &recordReader{}))
	clear(text)
	record := request.GetRecords()[0]
	assert.Equal(t, "a", string(record.Key))
	assert.Equal(t, "n", record.GetHeaders()[0].GetName())
	assert.Equal(t, "t", request.GetTopic())
	record.Key = append(record.Key, 'x')
	assert.Equal(t, "b", string(record.Value), "appending to a key leaves the value alone")
}

func TestPlacesAreJoined(t *testing.T) {
	err := within("records", within("[3]", within("headers", within("[0]", errors.New("bad")))))
	assert.EqualError(t, err, "records[3].headers[0]: bad")
}
