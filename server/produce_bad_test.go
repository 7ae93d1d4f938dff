package server_test

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// badRequest is a produce that must be refused: how, and what the message says.
type badRequest struct {
	request *sluicev1.ProduceRequest
	want    *fault.Fault
	message string
}

func records(rs ...*sluicev1.ProduceRecord) *sluicev1.ProduceRequest {
	return &sluicev1.ProduceRequest{Topic: "t", Records: rs}
}

func plain(n int) *sluicev1.ProduceRequest {
	return records(make10(n)...)
}

func make10(n int) []*sluicev1.ProduceRecord {
	rs := make([]*sluicev1.ProduceRecord, n)
	for i := range rs {
		rs[i] = &sluicev1.ProduceRecord{Value: []byte("v")}
	}
	return rs
}

// with changes a request.
func with(r *sluicev1.ProduceRequest, change func(*sluicev1.ProduceRequest),
) *sluicev1.ProduceRequest {
	change(r)
	return r
}

func badProduces() map[string]badRequest {
	type R = sluicev1.ProduceRequest
	good := func() *sluicev1.ProduceRecord { return &sluicev1.ProduceRecord{Value: []byte("v")} }
	header := func(n int) *sluicev1.ProduceRecord {
		return &sluicev1.ProduceRecord{Headers: []*sluicev1.Header{{
			Name: "h", Value: make([]byte, n),
		}}}
	}
	return map[string]badRequest{
		"no topic": {&R{Records: make10(1)}, fault.InvalidRequest, "topic"},
		"unknown topic": {
			&R{Topic: "x", Records: make10(1)}, fault.UnknownTopicOrPartition, "x",
		},
		"topic ..": {&R{Topic: "..", Records: make10(1)}, fault.InvalidTopic, ".."},
		"topic /":  {&R{Topic: "a/b", Records: make10(1)}, fault.InvalidTopic, "a/b"},
		"topic 250": {
			&R{Topic: strings.Repeat("x", 250), Records: make10(1)}, fault.InvalidTopic, "249",
		},
		"topic NUL": {&R{Topic: "a\x00", Records: make10(1)}, fault.InvalidTopic, ""},
		"internal topic": {
			&R{Topic: "__consumer_offsets", Records: make10(1)},
			fault.AuthorizationFailed, "internal",
		},
		"nothing":        {records(), fault.InvalidRequest, "records: is empty"},
		"10,001 records": {plain(10_001), fault.InvalidRequest, "10001"},
		"negative part": {
			with(plain(1), func(r *R) { r.Partition = new(int32(-1)) }),
			fault.UnknownPartition, "-1",
		},
		"partition beyond": {
			with(plain(1), func(r *R) { r.Partition = new(int32(2)) }),
			fault.UnknownPartition, "2",
		},
		"second record's partition": {
			records(good(), &sluicev1.ProduceRecord{Partition: new(int32(99))}),
			fault.UnknownPartition, "99",
		},
		"2 MiB record": {
			records(good(), &sluicev1.ProduceRecord{Value: make([]byte, 2<<20)}),
			fault.MessageTooLarge, "max.message.bytes",
		},
		"65 KiB key": {
			records(good(), &sluicev1.ProduceRecord{Key: make([]byte, 65<<10)}),
			fault.InvalidRecord, "records[1]",
		},
		"9 KiB header": {records(good(), header(9<<10)), fault.InvalidRecord, "records[1]"},
		"2 KiB header name": {
			records(&sluicev1.ProduceRecord{Headers: []*sluicev1.Header{{
				Name: strings.Repeat("n", 2<<10),
			}}}), fault.InvalidRecord, "records[0].headers[0].name",
		},
		"65 headers": {
			records(&sluicev1.ProduceRecord{Headers: repeat(&sluicev1.Header{Name: "h"}, 65)}),
			fault.InvalidRecord, "65",
		},
		"before 1970": {
			records(good(), &sluicev1.ProduceRecord{
				Timestamp: &timestamppb.Timestamp{Seconds: -1},
			}), fault.InvalidTimestamp, "records[1].timestamp",
		},
		"year 10000": {
			records(&sluicev1.ProduceRecord{
				Timestamp: &timestamppb.Timestamp{Seconds: math.MaxInt64},
			}), fault.InvalidTimestamp, "records[0].timestamp",
		},
		"bad acks": {
			with(plain(1), func(r *R) { r.Acks = 99 }), fault.InvalidRequest, "acks",
		},
		"bad compression": {
			with(plain(1), func(r *R) { r.Compression = -1 }),
			fault.InvalidRequest, "compression",
		},
		"negative timeout": {
			with(plain(1), func(r *R) { r.Timeout = durationpb.New(-1) }),
			fault.InvalidRequest, "timeout",
		},
		"negative expectation": {
			with(plain(1), func(r *R) { r.ExpectedOffset = new(int64(-1)) }),
			fault.InvalidRequest, "expected_offset",
		},
		"an expectation of two partitions": {
			with(records(
				&sluicev1.ProduceRecord{Partition: new(int32(0))},
				&sluicev1.ProduceRecord{Partition: new(int32(1))},
			), func(r *R) { r.ExpectedOffset = new(int64(0)) }),
			fault.InvalidRequest, "expected_offset",
		},
		"an expectation of any partition": {
			with(plain(1), func(r *R) { r.ExpectedOffset = new(int64(0)) }),
			fault.InvalidRequest, "needs partition",
		},
		"a producer without epoch": {
			with(plain(1), func(r *R) { r.ProducerId = new(int64(1)) }),
			fault.InvalidRequest, "producer_epoch",
		},
		"an epoch of 32768": {
			with(plain(1), func(r *R) {
				r.ProducerId, r.BaseSequence = new(int64(1)), new(int32(0))
				r.ProducerEpoch = new(int32(32768))
			}), fault.InvalidRequest, "32768",
		},
		"a negative sequence": {
			with(plain(1), func(r *R) {
				r.ProducerId, r.BaseSequence = new(int64(1)), new(int32(-1))
				r.ProducerEpoch = new(int32(0))
			}), fault.InvalidRequest, "base_sequence",
		},
		"an unknown producer": {
			with(plain(1), func(r *R) {
				r.ProducerId, r.BaseSequence = new(int64(1)), new(int32(7))
				r.ProducerEpoch, r.Partition = new(int32(0)), new(int32(0))
			}), fault.UnknownProducerID, "",
		},
	}
}

func repeat[T any](v T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

func TestBadProducesWriteNothing(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	_, err := f.groups.CommitOffsets(t.Context(), commit("g", "t", 0, 0))
	require.NoError(t, err, "makes the internal topic")
	conn := fixtureOf(t, f.Node, f.Dial())
	for name, bad := range badProduces() {
		t.Run(name, func(t *testing.T) {
			_, err := f.log.Produce(t.Context(), bad.request)
			refused(t, err, bad.want, bad.message)
			if name == "topic NUL" {
				return // no field of a request over a connection
			}
			_, overWire := conn.log.Produce(t.Context(), bad.request)
			refused(t, overWire, bad.want, bad.message)
			assert.Equal(t, err.Error(), overWire.Error())
		})
	}
	assert.Equal(t, []storage.Offset{0, 0}, f.ends("t"))
	f.produce("t", 0, "still works")
}

func TestBadBatchesAreRefused(t *testing.T) {
	good := func() []byte { return encoded(t, withCodec(batch.None), "a", "b", "c") }
	change := func(at int, to byte) []byte {
		b := good()
		b[at] = to
		return b
	}
	// sum makes the checksum right again, so that what is behind it is looked at.
	sum := func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[17:],
			crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
		return b
	}
	// more counts records that are not there, as its header says throughout.
	more := good()
	more[26], more[60] = 4, 5
	control := batch.DefaultEncodeOptions()
	control.Control = true
	transactional := batch.DefaultEncodeOptions()
	transactional.Transactional = true
	transactional.ProducerID, transactional.ProducerEpoch, transactional.BaseSequence = 1, 0, 0
	tests := map[string]struct {
		batch []byte
		want  *fault.Fault
	}{
		"empty":           {[]byte{}, fault.CorruptMessage},
		"text":            {[]byte(strings.Repeat("not a batch", 10)), fault.CorruptMessage},
		"wrong CRC":       {change(17, 0xff), fault.CorruptMessage},
		"magic 1":         {change(16, 1), fault.CorruptMessage},
		"length short":    {change(11, 50), fault.CorruptMessage},
		"negative length": {change(8, 0x80), fault.CorruptMessage},
		"cut":             {good()[:70], fault.CorruptMessage},
		"two batches":     {append(good(), good()...), fault.CorruptMessage},
		"count":           {sum(change(60, 2)), fault.CorruptMessage},
		"records missing": {sum(more), fault.CorruptMessage},
		"last delta":      {sum(change(26, 5)), fault.CorruptMessage},
		"unknown codec":   {sum(change(22, 7)), fault.CorruptMessage},
		"control":         {encoded(t, control, "x"), fault.CorruptMessage},
		"transactional":   {encoded(t, transactional, "x"), fault.InvalidRequest},
		"2 MiB": {
			encoded(t, withCodec(batch.None), strings.Repeat("x", 2<<20)), fault.MessageTooLarge,
		},
		"bomb of zstd": {bomb(t, batch.Zstd), fault.MessageTooLarge},
		"bomb of gzip": {bomb(t, batch.Gzip), fault.MessageTooLarge},
		"bomb of lz4":  {bomb(t, batch.LZ4), fault.MessageTooLarge},
	}
	f := begin(t)
	f.create("t", 1)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
				Topic: "t", Partition: new(int32(0)), RecordBatch: test.batch,
			})
			refused(t, err, test.want)
		})
	}
	for name, request := range map[string]*sluicev1.ProduceRequest{
		"and records": {
			RecordBatch: good(), Partition: new(int32(0)), Records: make10(1),
		},
		"without partition": {RecordBatch: good()},
		"with producer": {
			RecordBatch: good(), Partition: new(int32(0)), ProducerId: new(int64(1)),
		},
	} {
		request.Topic = "t"
		_, err := f.log.Produce(t.Context(), request)
		refused(t, err, fault.InvalidRequest, name[:0])
	}
	assert.Equal(t, []storage.Offset{0}, f.ends("t"))
}

// bomb is a small batch of 40 MiB of zeros.
func bomb(t *testing.T, codec batch.Codec) []byte {
	b, err := batch.Encode(nil, []batch.Record{{Value: make([]byte, 40<<20)}}, withCodec(codec))
	require.NoError(t, err)
	require.Less(t, len(b), 1<<20)
	return b
}
