package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// The topics of a run.
const (
	loadTopic    = "load"    // idempotent producers
	linearTopic  = "linear"  // single operations, for the linearizability check
	restTopic    = "rest"    // producers and readers that speak HTTP
	movedTopic   = "moved"   // two replicas, which move between the nodes all the time
	sessionTopic = "session" // a client that reads what it has written
)

// ack is a record that was acknowledged.
type ack struct {
	payload   string
	partition int32
	offset    int64 // -1 where the answer could not say
	at        time.Time
}

// ledger is what the clients of a topic were told.
type ledger struct {
	topic      string
	partitions int32

	mu      sync.Mutex
	acks    []ack
	unknown map[string]bool // payloads that may be there
	retries int
	broken  []string                   // answers that must not be
	read    map[int32]map[int64]string // what readers saw, by partition and offset
}

func newLedger(topic string, partitions int32) *ledger {
	return &ledger{
		topic: topic, partitions: partitions, unknown: map[string]bool{},
		read: map[int32]map[int64]string{},
	}
}

func (l *ledger) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = append(l.broken, time.Now().UTC().Format("15:04:05.000 ")+l.topic+": "+
		fmt.Sprintf(format, args...))
}

// producer writes numbered records with one producer id, one request at a time
// on each partition, and repeats each until it is acknowledged.
type producer struct {
	c       *cluster
	ledger  *ledger
	number  int
	id      int64
	epoch   int32
	random  *rand.Rand
	written map[int32]int   // records, by partition
	next    map[int32]int32 // sequence
}

const (
	callTime    = 5 * time.Second
	produceTime = 2 * time.Second // a node that says nothing is not waited for any longer
	batchMax    = 5
	retryPause  = 100 * time.Millisecond
	settleLimit = 2 * time.Minute
)

func newProducer(c *cluster, l *ledger, number int, random *rand.Rand) *producer {
	return &producer{c: c, ledger: l, number: number, random: random, written: map[int32]int{}}
}

// run writes until ctx ends, and then brings what is under way to an end.
func (p *producer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if p.next == nil && !p.begin(ctx) {
			return
		}
		p.write(ctx, p.random.Int32N(p.ledger.partitions))
		_ = sleep(ctx, time.Duration(p.random.IntN(20))*time.Millisecond)
	}
}

// begin asks for a producer id.
func (p *producer) begin(ctx context.Context) bool {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, callTime)
		made, err := sluicev1.NewTransactionServiceClient(p.any().conn).InitProducer(call,
			&sluicev1.InitProducerRequest{})
		cancel()
		if err == nil {
			p.id, p.epoch, p.next = made.GetProducerId(), made.GetProducerEpoch(), map[int32]int32{}
			return true
		}
		_ = sleep(ctx, retryPause)
	}
	return false
}

func (p *producer) any() *process { return p.c.nodes[p.random.IntN(len(p.c.nodes))] }

// write writes one batch, whatever it takes.
func (p *producer) write(ctx context.Context, partition int32) {
	sequence := p.next[partition]
	request := &sluicev1.ProduceRequest{
		Topic: p.ledger.topic, Partition: &partition, ProducerId: &p.id, ProducerEpoch: &p.epoch,
		BaseSequence: &sequence, Timeout: durationpb.New(produceTime),
	}
	var payloads []string
	for range 1 + p.random.IntN(batchMax) {
		payload := fmt.Sprintf("%d|%d|%d", p.number, partition, p.written[partition])
		p.written[partition]++
		payloads = append(payloads, payload)
		request.Records = append(request.Records,
			&sluicev1.ProduceRecord{Value: []byte(payload)})
	}
	deadline := time.Now().Add(settleLimit)
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), produceTime)
		answer, err := sluicev1.NewLogServiceClient(p.any().conn).Produce(call, request)
		cancel()
		if err == nil {
			p.acked(partition, payloads, answer)
			p.next[partition] = sequence + int32(len(payloads))
			return
		}
		e := fault.From(err)
		switch {
		case e.Fault == fault.DuplicateSequenceNumber:
			p.acked(partition, payloads, nil)
			p.next[partition] = sequence + int32(len(payloads))
			return
		case !again(err):
			p.ledger.violation("producer %d, partition %d, sequence %d: %v", p.number, partition,
				sequence, err)
			p.give(payloads)
			return
		case time.Now().After(deadline):
			p.ledger.violation("producer %d, partition %d: no acknowledgement in %v: %v",
				p.number, partition, settleLimit, err)
			p.give(payloads)
			return
		}
		p.ledger.mu.Lock()
		p.ledger.retries++
		p.ledger.mu.Unlock()
		_ = sleep(context.WithoutCancel(ctx), retryPause)
	}
}

// again reports whether a call that failed may be made again: a call that was
// cancelled ran out of time, and a disk may have room again.
func again(err error) bool {
	e := fault.From(err)
	return e.Retriable || e.Fault == fault.StorageFull || e.Fault == fault.Cancelled
}

// give gives up on records: they may be there, and the sequence is lost.
func (p *producer) give(payloads []string) {
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	for _, payload := range payloads {
		p.ledger.unknown[payload] = true
	}
	p.next = nil
}

func (p *producer) acked(partition int32, payloads []string, r *sluicev1.ProduceResponse) {
	now := time.Now()
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	for i, payload := range payloads {
		a := ack{payload: payload, partition: partition, offset: -1, at: now}
		if r != nil {
			a.offset = r.GetResults()[i].GetOffset()
		}
		p.ledger.acks = append(p.ledger.acks, a)
	}
}

// follow reads a partition from its beginning to whatever its end is, by way of
// any node, and notes what it sees at each offset.
func (l *ledger) follow(ctx context.Context, c *cluster, partition int32, random *rand.Rand) {
	next := int64(0)
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, callTime)
		page, err := sluicev1.NewLogServiceClient(c.nodes[random.IntN(len(c.nodes))].conn).Fetch(
			call, &sluicev1.FetchRequest{
				Topic: l.topic, Partition: partition, Offset: next,
				MaxWait: durationpb.New(500 * time.Millisecond),
			})
		cancel()
		if err != nil {
			if e := fault.From(err); e.Fault == fault.OffsetOutOfRange {
				l.violation("partition %d: a reader at %d: %v", partition, next, err)
			}
			_ = sleep(ctx, retryPause)
			continue
		}
		for _, r := range page.GetRecords() {
			l.saw(partition, next, r.GetOffset(), string(r.GetValue()))
			next = r.GetOffset() + 1
		}
	}
}

// saw notes that a reader who expected an offset got a record.
func (l *ledger) saw(partition int32, expected, offset int64, payload string) {
	if offset != expected {
		l.violation("partition %d: offset %d follows %d", partition, offset, expected-1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.read[partition]
	if seen == nil {
		seen = map[int64]string{}
		l.read[partition] = seen
	}
	if before, ok := seen[offset]; ok && before != payload {
		l.broken = append(l.broken, fmt.Sprintf("%s-%d: readers saw %q and %q at %d", l.topic,
			partition, before, payload, offset))
	}
	seen[offset] = payload
}
