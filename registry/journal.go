package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/registry/ledger"
)

// journal is the log that the registry's state is made of, as the store uses
// it. Its records have rising positions, with gaps where compaction took some
// away.
type journal struct {
	// append writes records at exactly a position, all of them or none, under a
	// name that readers see with each. An error is errMoved where the log ends
	// elsewhere, errRefused where nothing was written and trying again is of no
	// use, and anything else where nobody knows.
	append func(ctx context.Context, at ledger.Revision, batch string, records []ledger.Record,
	) (appended, error)
	// follow reads from a position on and calls handle with each stretch of
	// records, until it or handle fails. The error is errReset where the log
	// doesn't hold the position.
	follow func(ctx context.Context, from ledger.Revision, handle func(stretch) error) error
	// bounds returns the first position that the log holds, and the one that
	// the next record gets.
	bounds func(ctx context.Context) (start, end ledger.Revision, err error)
}

// appended is where records were written: the positions after each, and when.
type appended struct {
	next ledger.Revision
	time int64 // in milliseconds since 1970
}

// stretch is records that were read, in order, and the position after them.
type stretch struct {
	records []stamped
	next    ledger.Revision
	end     ledger.Revision // of the log, when this was read
}

// stamped is a record with what the log says about it.
type stamped struct {
	ledger.Record
	at    ledger.Revision
	time  int64 // in milliseconds since 1970
	batch string
}

var (
	errMoved   = errors.New("the log ends elsewhere")
	errReset   = errors.New("the log does not hold the position")
	errRefused = errors.New("the log refused the records")
)

// batchHeader names the header of a record that holds the name of the batch
// that it was written in.
const batchHeader = "sluice-registry-batch"

// brokerJournal is the journal in a topic of the broker, which is made for the
// first record: where nobody uses schemas there is none.
type brokerJournal struct {
	log      sluicev1.LogServiceClient
	topics   sluicev1.TopicServiceClient
	topic    string
	replicas int32 // that a topic gets when it is made, or as many as there are brokers
	clusters sluicev1.ClusterServiceClient
	there    atomic.Bool   // the topic, as far as known
	made     chan struct{} // has an item once the topic was made here
}

func newBrokerJournal(conn grpc.ClientConnInterface, c *Config) journal {
	b := &brokerJournal{
		log: sluicev1.NewLogServiceClient(conn), topics: sluicev1.NewTopicServiceClient(conn),
		clusters: sluicev1.NewClusterServiceClient(conn),
		topic:    c.Topic, replicas: c.ReplicationFactor, made: make(chan struct{}, 1),
	}
	return journal{append: b.append, follow: b.follow, bounds: b.bounds}
}

// recordBytesMax is the largest record of the topic: the largest schema twice,
// since JSON escapes its quotes, with references, metadata and rules.
const recordBytesMax = 6 << 20

// replicaCount returns how many replicas the topic is made with.
func (b *brokerJournal) replicaCount(ctx context.Context) (int32, error) {
	reply, err := b.clusters.GetCluster(ctx, &sluicev1.GetClusterRequest{})
	if err != nil {
		return 0, fmt.Errorf("counting the brokers: %w", err)
	}
	return min(max(int32(len(reply.GetCluster().GetBrokers())), 1), b.replicas), nil
}

// create makes the topic if there is none.
func (b *brokerJournal) create(ctx context.Context) error {
	replicas, err := b.replicaCount(ctx)
	if err != nil {
		return err
	}
	_, err = b.topics.CreateTopic(ctx, &sluicev1.CreateTopicRequest{
		Topic: b.topic, PartitionCount: 1, ReplicationFactor: replicas,
		Configs: map[string]string{
			"cleanup.policy":    "compact",
			"max.message.bytes": strconv.Itoa(recordBytesMax),
		},
	})
	if err != nil && !errors.Is(fault.From(err), fault.TopicAlreadyExists) {
		return fmt.Errorf("creating topic %s: %w", b.topic, err)
	}
	if err := b.check(ctx); err != nil {
		return err
	}
	select {
	case b.made <- struct{}{}:
	default:
	}
	return nil
}

// check finds out whether the topic is there, and refuses one of another shape.
func (b *brokerJournal) check(ctx context.Context) error {
	reply, err := b.topics.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: b.topic})
	if err != nil && errors.Is(fault.From(err), fault.UnknownTopicOrPartition) {
		b.there.Store(false)
		return nil
	}
	if err != nil {
		return fmt.Errorf("describing topic %s: %w", b.topic, err)
	}
	t := reply.GetTopic()
	if t.GetPartitionCount() != 1 || t.GetConfigs()["cleanup.policy"] != "compact" {
		return fmt.Errorf("topic %s has %d partitions and cleanup.policy %q; the registry needs "+
			"1 and \"compact\"", b.topic, t.GetPartitionCount(), t.GetConfigs()["cleanup.policy"])
	}
	b.there.Store(true)
	return nil
}

func (b *brokerJournal) append(
	ctx context.Context, at ledger.Revision, batch string, records []ledger.Record,
) (appended, error) {
	if !b.there.Load() {
		if err := b.create(ctx); err != nil {
			return appended{}, err
		}
	}
	request := &sluicev1.ProduceRequest{
		Topic: b.topic, Partition: new(int32), ExpectedOffset: new(int64(at)),
		Acks: sluicev1.Acks_ACKS_ALL, Records: make([]*sluicev1.ProduceRecord, len(records)),
	}
	header := []*sluicev1.Header{{Name: batchHeader, Value: []byte(batch)}}
	for i, r := range records {
		request.Records[i] = &sluicev1.ProduceRecord{Key: r.Key, Value: r.Value, Headers: header}
	}
	reply, err := b.log.Produce(ctx, request)
	if err != nil {
		return appended{}, b.refusal(err)
	}
	results := reply.GetResults()
	if len(results) != len(records) {
		return appended{}, fmt.Errorf("%d results for %d records", len(results), len(records))
	}
	last := results[len(results)-1]
	return appended{
		next: ledger.Revision(last.GetOffset()) + 1,
		time: last.GetTimestamp().AsTime().UnixMilli(),
	}, nil
}

// refusal says what an error of Produce means for the records.
func (b *brokerJournal) refusal(err error) error {
	f := fault.From(err)
	switch {
	case errors.Is(f, fault.OffsetMismatch):
		return fmt.Errorf("%w: %w", errMoved, f)
	case errors.Is(f, fault.MessageTooLarge), errors.Is(f, fault.RequestTooLarge):
		return fmt.Errorf("%w: %w", errRefused, ledger.SchemaTooLarge.With())
	case errors.Is(f, fault.InvalidRecord), errors.Is(f, fault.InvalidRequest),
		errors.Is(f, fault.AuthorizationFailed), errors.Is(f, fault.StorageFull):
		return fmt.Errorf("%w: %w", errRefused, f)
	}
	return fmt.Errorf("writing to topic %s: %w", b.topic, f)
}

func (b *brokerJournal) bounds(ctx context.Context) (start, end ledger.Revision, err error) {
	at := func(where string) (ledger.Revision, error) {
		reply, err := b.log.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
			Topic: b.topic, At: where,
		})
		if err != nil && errors.Is(fault.From(err), fault.UnknownTopicOrPartition) {
			return 0, nil
		}
		return ledger.Revision(reply.GetOffset()), err
	}
	if start, err = at("earliest"); err != nil {
		return 0, 0, err
	}
	end, err = at("latest")
	return start, end, err
}

// absenceDelay is how often a topic that is not there is looked for.
const absenceDelay = time.Second

// awaitTopic returns when the topic is there; until then it is an empty log.
func (b *brokerJournal) awaitTopic(
	ctx context.Context, from ledger.Revision, handle func(stretch) error,
) error {
	for {
		if err := b.check(ctx); err != nil || b.there.Load() {
			return err
		}
		if from > 0 {
			return fmt.Errorf("%w: topic %s is not there", errReset, b.topic)
		}
		if err := handle(stretch{}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.made:
		case <-time.After(absenceDelay):
		}
	}
}

func (b *brokerJournal) follow(
	ctx context.Context, from ledger.Revision, handle func(stretch) error,
) error {
	if err := b.awaitTopic(ctx, from, handle); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.log.FetchStream(ctx, &sluicev1.FetchStreamRequest{
		Partitions: []*sluicev1.FetchPartition{{Topic: b.topic, Offset: int64(from)}},
	})
	if err != nil {
		return b.lost(ctx, err)
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return b.lost(ctx, err)
		}
		r := stretch{
			next: ledger.Revision(message.GetNextOffset()),
			end:  ledger.Revision(message.GetHighWatermark()),
		}
		r.records = make([]stamped, 0, len(message.GetRecords()))
		for _, record := range message.GetRecords() {
			r.records = append(r.records, stampedOf(record))
		}
		if err := handle(r); err != nil {
			return err
		}
	}
}

func stampedOf(r *sluicev1.Record) stamped {
	s := stamped{
		Record: ledger.Record{Key: r.GetKey(), Value: r.Value},
		at:     ledger.Revision(r.GetOffset()),
		time:   r.GetTimestamp().AsTime().UnixMilli(),
	}
	for _, h := range r.GetHeaders() {
		if h.GetName() == batchHeader {
			s.batch = string(h.GetValue())
		}
	}
	return s
}

// lost says why following ended.
func (b *brokerJournal) lost(ctx context.Context, err error) error {
	f := fault.From(err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(f, fault.OffsetOutOfRange), errors.Is(f, fault.UnknownTopicOrPartition):
		return fmt.Errorf("%w: %w", errReset, f)
	}
	return fmt.Errorf("reading topic %s: %w", b.topic, f)
}
