package batch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz-go's client is the oracle here: what it encodes must be what we decode, and the other way
// round. Its batches are taken from its own produce requests, which it sends over net.Pipe to a
// broker that knows just enough of Kafka's protocol to receive them.

// A broker answers the client's requests and keeps the batches it produces. It has one topic of
// one partition.
type broker struct {
	served  sync.WaitGroup
	mu      sync.Mutex
	batches [][]byte // guarded by mu
	failed  error    // guarded by mu
}

const (
	oracleTopic      = "t"
	oracleProducerID = 4711
)

// spoken are the requests that the broker answers, and the latest version of each.
var spoken = map[int16]int16{
	int16(kmsg.Produce): 9, int16(kmsg.Metadata): 9, int16(kmsg.ApiVersions): 3,
	int16(kmsg.InitProducerID): 4, int16(kmsg.FindCoordinator): 3,
	int16(kmsg.AddPartitionsToTxn): 3, int16(kmsg.EndTxn): 3,
}

// dial is a kgo.Dialer whose other end is b.
func (b *broker) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	b.served.Go(func() {
		defer server.Close()
		for {
			err := b.answer(server)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				return
			}
			if err != nil {
				b.mu.Lock()
				b.failed = err
				b.mu.Unlock()
				return
			}
		}
	})
	return client, nil
}

// answer reads one request and writes its response.
func (b *broker) answer(conn net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	key, version := int16(binary.BigEndian.Uint16(body)), int16(binary.BigEndian.Uint16(body[2:]))
	correlation, body := body[4:8], body[8:]
	if n := int16(binary.BigEndian.Uint16(body)); n > 0 { // the client id
		body = body[n:]
	}
	body = body[2:]
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	if req.IsFlexible() {
		body = body[1:] // no tags
	}
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("request %d: %w", key, err)
	}
	resp, err := b.respond(req)
	if err != nil {
		return err
	}
	out := append([]byte{0, 0, 0, 0}, correlation...)
	if resp.IsFlexible() && key != int16(kmsg.ApiVersions) {
		out = append(out, 0)
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	if acks, ok := req.(*kmsg.ProduceRequest); ok && acks.Acks == 0 {
		return nil
	}
	_, err = conn.Write(out)
	return err
}

// respond makes the response to req.
func (b *broker) respond(req kmsg.Request) (kmsg.Response, error) {
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		if req.Version > spoken[req.Key()] {
			resp.Version, resp.ErrorCode = 0, kerr.UnsupportedVersion.Code
		}
		for key, last := range spoken {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, last
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		return resp, nil
	case *kmsg.MetadataRequest:
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		node := kmsg.NewMetadataResponseBroker()
		node.Host, node.Port = "broker", 1
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = new(oracleTopic)
		topic.Partitions = []kmsg.MetadataResponseTopicPartition{
			{Replicas: []int32{0}, ISR: []int32{0}},
		}
		resp.Brokers = []kmsg.MetadataResponseBroker{node}
		resp.Topics = []kmsg.MetadataResponseTopic{topic}
		return resp, nil
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = oracleProducerID, 2
		return resp, nil
	case *kmsg.FindCoordinatorRequest:
		resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.Host, resp.Port = "broker", 1
		return resp, nil
	case *kmsg.AddPartitionsToTxnRequest:
		resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		resp.Topics = []kmsg.AddPartitionsToTxnResponseTopic{{
			Topic:      oracleTopic,
			Partitions: []kmsg.AddPartitionsToTxnResponseTopicPartition{{}},
		}}
		return resp, nil
	case *kmsg.EndTxnRequest:
		return req.ResponseKind(), nil
	case *kmsg.ProduceRequest:
		return b.produce(req), nil
	}
	return nil, fmt.Errorf("request %T was not expected", req)
}

// produce keeps the batches of req.
func (b *broker) produce(req *kmsg.ProduceRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range req.Topics {
		answer := kmsg.NewProduceResponseTopic()
		answer.Topic = topic.Topic
		for _, p := range topic.Partitions {
			b.batches = append(b.batches, bytes.Clone(p.Records))
			part := kmsg.NewProduceResponseTopicPartition()
			part.BaseOffset = int64(1000 * len(b.batches))
			answer.Partitions = append(answer.Partitions, part)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	return resp
}

// oracleRecords are records that differ in all that the client lets them, and that compress well;
// so does the first alone.
func oracleRecords() []Record {
	records := sample()[:4]
	records[0], records[3] = records[3], records[0]
	for i := range 200 {
		r := Record{
			Timestamp: sampleTime + int64(i*37%11), Key: fmt.Appendf(nil, "key-%d", i%10),
			Value: bytes.Repeat([]byte("value "), i),
		}
		for range i % 3 {
			r.Headers = append(r.Headers, RecordHeader{Key: "trace", Value: fmt.Append(nil, i)})
		}
		records = append(records, r)
	}
	for i := range records {
		records[i].Offset = int64(i)
	}
	return records
}

// toKgo returns our record as the client's.
func toKgo(r Record) *kgo.Record {
	k := &kgo.Record{
		Topic: oracleTopic, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp),
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

// fromKgo returns the client's record as ours.
func fromKgo(k *kgo.Record) Record {
	r := Record{Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, RecordHeader{Key: h.Key, Value: h.Value})
	}
	return r
}

// produceWith has the client send the records, and returns the batches that it made of them.
func produceWith(t *testing.T, records []Record, transaction bool, opts ...kgo.Opt) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := new(broker)
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers("broker:1"), kgo.Dialer(b.dial),
		kgo.ManualFlushing(), kgo.RequestTimeoutOverhead(10*time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	if transaction {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	// The first goes alone: until the client knows the topic, it is free to cut batches anywhere.
	for _, together := range [][]Record{records[:1], records[1:]} {
		for _, r := range together {
			client.TryProduce(ctx, toKgo(r), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := client.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if transaction {
		if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Error(err)
		}
	}
	client.Close()
	b.served.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil || len(b.batches) == 0 {
		t.Fatalf("%d batches arrived, %v", len(b.batches), b.failed)
	}
	return b.batches
}

// compressions are the client's names of the codecs.
var compressions = []kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
	LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

func TestBatchesOfKafkasClientAreRead(t *testing.T) {
	for _, c := range codecs {
		for name, opts := range map[string][]kgo.Opt{
			"idempotent":    nil,
			"plain":         {kgo.DisableIdempotentWrite()},
			"acks 0":        {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())},
			"transactional": {kgo.TransactionalID("x")},
			// Batches that fill up are compressed as a stream: snappy in xerial framing.
			"streaming": {kgo.StreamingCompression(), kgo.ProducerBatchMaxBytes(32 << 10)},
		} {
			t.Run(c.String()+" "+name, func(t *testing.T) {
				records := oracleRecords()
				opts = append(opts, kgo.ProducerBatchCompression(compressions[c]))
				batches := produceWith(t, records, name == "transactional", opts...)
				if name != "streaming" && len(batches) != 2 {
					t.Errorf("%d batches", len(batches))
				}
				idempotent := name != "plain" && name != "acks 0"
				var got []Record
				framed := false
				for _, b := range batches {
					SetBaseOffset(b, int64(len(got)))
					checkOracle(t, b, c, name == "transactional", idempotent)
					framed = framed || bytes.HasPrefix(b[HeaderBytes:], xerialMagic)
					records, err := decode(b)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, records...)
				}
				compare(t, got, records)
				if want := c == Snappy && name == "streaming"; framed != want {
					t.Errorf("xerial framing is %v, want %v", framed, want)
				}
			})
		}
	}
}

// checkOracle checks a batch of the client and its header.
func checkOracle(t *testing.T, b []byte, c Codec, transactional, idempotent bool) {
	t.Helper()
	h, err := Check(b, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if h.Codec() != c || h.Transactional() != transactional {
		t.Errorf("header %+v", h)
	}
	id, epoch, last := int64(NoProducerID), int16(-1), int32(-1)
	if idempotent {
		id, epoch, last = oracleProducerID, 2, int32(h.LastOffset())
	}
	if h.ProducerID != id || h.ProducerEpoch != epoch || idempotent && h.LastSequence() != last {
		t.Errorf("producer %d, epoch %d, last sequence %d; want %d, %d, %d", h.ProducerID,
			h.ProducerEpoch, h.LastSequence(), id, epoch, last)
	}
}

// compare names the first record that differs.
func compare(t *testing.T, got, want []Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !sameRecord(got[i], want[i]) {
			t.Fatalf("record %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
}

// fetch has the client decode batches as those of a fetch response.
func fetch(t *testing.T, batches []byte, o kgo.ProcessFetchPartitionOpts,
	aborted ...kmsg.FetchResponseTopicPartitionAbortedTransaction,
) []Record {
	t.Helper()
	p := kmsg.NewFetchResponseTopicPartition()
	p.HighWatermark, p.LastStableOffset = 1<<40, 1<<40
	p.RecordBatches, p.AbortedTransactions = batches, aborted
	o.Topic = oracleTopic
	fetched, _ := kgo.ProcessFetchPartition(o, &p, kgo.DefaultDecompressor(), nil)
	if fetched.Err != nil {
		t.Fatal(fetched.Err)
	}
	var records []Record
	for _, r := range fetched.Records {
		records = append(records, fromKgo(r))
	}
	return records
}

func TestKafkasClientReadsOurBatches(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.String(), func(t *testing.T) {
			records := oracleRecords()
			o := with(c)
			o.BaseOffset = 1 << 33
			for i := range records {
				records[i].Offset += o.BaseOffset
			}
			b := encode(t, records, o)
			compare(t, fetch(t, b, kgo.ProcessFetchPartitionOpts{}), records)

			SetAppendTime(b, sampleTime+99)
			for i := range records {
				records[i].Timestamp = sampleTime + 99
			}
			compare(t, fetch(t, b, kgo.ProcessFetchPartitionOpts{}), records)

			kept := slices.DeleteFunc(oracleRecords(), func(r Record) bool {
				return r.Offset%3 != 1
			})
			o = EncodeOptions{
				Codec: c, ProducerID: 5, KeepOffsets: true, LastOffset: 500,
				HasDeleteHorizon: true, DeleteHorizon: sampleTime + 1e6,
			}
			compare(t, fetch(t, encode(t, kept, o), kgo.ProcessFetchPartitionOpts{}), kept)
		})
	}
}

func TestKafkasClientSkipsWhatOurMarkersAbort(t *testing.T) {
	var all []byte
	add := func(base int64, control bool, records ...Record) {
		o := EncodeOptions{
			BaseOffset: base, ProducerID: 8, BaseSequence: int32(base), Transactional: true,
			Control: control,
		}
		if control {
			o.BaseSequence = -1
		}
		var err error
		if all, err = Encode(all, records, o); err != nil {
			t.Fatal(err)
		}
	}
	marker := func(m Marker) Record { return Record{Key: ControlKey(m), Value: ControlValue(0)} }
	add(0, false, Record{Value: []byte("aborted")}, Record{Value: []byte("too")})
	add(2, true, marker(MarkerAbort))
	add(3, false, Record{Value: []byte("committed")})
	add(4, true, marker(MarkerCommit))

	aborted := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
	aborted.ProducerID, aborted.FirstOffset = 8, 0
	committed := kgo.ProcessFetchPartitionOpts{IsolationLevel: kgo.ReadCommitted()}
	compare(t, fetch(t, all, committed, aborted), []Record{{Offset: 3, Value: []byte("committed")}})
	if got := fetch(t, all, kgo.ProcessFetchPartitionOpts{}); len(got) != 3 {
		t.Errorf("read uncommitted: %d records, want 3 without the markers", len(got))
	}
	kept := fetch(t, all, kgo.ProcessFetchPartitionOpts{KeepControlRecords: true})
	if len(kept) != 5 || !bytes.Equal(kept[2].Key, ControlKey(MarkerAbort)) {
		t.Errorf("with markers: %+v", kept)
	}
}
