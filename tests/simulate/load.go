package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

const (
	loadTopic  = "load"
	partitions = 2
	callTime   = 5 * time.Second
	groupID    = "readers"
)

// history is what clients were told.
type history struct {
	mu      sync.Mutex
	acked   map[string]place
	read    map[place]string
	end     map[int32]int64 // as one client was told
	offset  map[int32]int64 // as was committed and acknowledged
	tries   int
	commits int
	broken  []string
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

func newHistory() *history {
	return &history{
		acked: map[string]place{}, read: map[place]string{}, end: map[int32]int64{},
		offset: map[int32]int64{},
	}
}

func (h *history) violation(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, fmt.Sprintf(format, args...))
}

// again reports whether a call may be made again.
func again(err error) bool {
	e := fault.From(err)
	return e.Retriable || e.Fault == fault.Cancelled
}

// produce writes numbered records as one idempotent producer until ctx ends, each
// until it is acknowledged, by way of any node.
func (h *history) produce(ctx context.Context, w *world, number int, random *rand.Rand) {
	var id int64
	var epoch int32
	err := h.insist(ctx, w, random, func(ctx context.Context, m *member) error {
		made, err := sluicev1.NewTransactionServiceClient(m.client).InitProducer(ctx,
			&sluicev1.InitProducerRequest{})
		id, epoch = made.GetProducerId(), made.GetProducerEpoch()
		return err
	})
	if err != nil {
		h.violation("producer %d gets no id: %v", number, err)
		return
	}
	next := map[int32]int32{}
	for ctx.Err() == nil {
		partition := random.Int32N(partitions)
		payload := fmt.Sprintf("%d|%d", number, next[partition])
		sequence := next[partition]
		var at int64
		err := h.insist(ctx, w, random, func(ctx context.Context, m *member) error {
			r, err := sluicev1.NewLogServiceClient(m.client).Produce(ctx, &sluicev1.ProduceRequest{
				Topic: loadTopic, Partition: &partition, ProducerId: &id, ProducerEpoch: &epoch,
				BaseSequence: &sequence, Timeout: durationpb.New(callTime),
				Records: []*sluicev1.ProduceRecord{{Value: []byte(payload)}},
			})
			if err == nil {
				at = r.GetResults()[0].GetOffset()
			}
			return err
		})
		if err != nil {
			h.violation("producer %d, partition %d: %v", number, partition, err)
			return
		}
		h.mu.Lock()
		h.acked[payload+"|"+strconv.Itoa(int(partition))] = place{partition, at}
		h.mu.Unlock()
		next[partition]++
		sleep(time.Duration(random.IntN(60)) * time.Millisecond)
	}
}

// insist makes a call by way of any node until it is answered for good, or for
// two minutes.
func (h *history) insist(
	ctx context.Context, w *world, random *rand.Rand,
	call func(context.Context, *member) error,
) error {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		err := call(once, w.nodes[random.IntN(nodeCount)])
		cancel()
		if err == nil || !again(err) || time.Now().After(deadline) {
			return err
		}
		h.mu.Lock()
		h.tries++
		h.mu.Unlock()
		sleep(100 * time.Millisecond)
	}
}

// follow reads a partition from its beginning to its end, as one client by way of
// any node, commits what it has read, and looks at what is committed.
func (h *history) follow(
	ctx context.Context, w *world, partition int32, random *rand.Rand,
) {
	for next := int64(0); ctx.Err() == nil; {
		sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		m := w.nodes[random.IntN(nodeCount)]
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		page, err := sluicev1.NewLogServiceClient(m.client).Fetch(call, &sluicev1.FetchRequest{
			Topic: loadTopic, Partition: partition, Offset: next,
			MaxWait: durationpb.New(time.Second),
		})
		if err == nil {
			next = h.saw(partition, next, page)
			h.commit(call, m, partition, next)
		} else if !again(err) {
			h.violation("a reader of partition %d at %d: %v", partition, next, err)
		}
		cancel()
	}
}

// saw notes a page, and returns where to read on.
func (h *history) saw(partition int32, next int64, page *sluicev1.FetchResponse) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range page.GetRecords() {
		if r.GetOffset() != next {
			h.broken = append(h.broken, fmt.Sprintf("partition %d: offset %d follows %d", partition,
				r.GetOffset(), next-1))
		}
		h.read[place{partition, r.GetOffset()}] = string(r.GetValue())
		next = r.GetOffset() + 1
	}
	if high := page.GetHighWatermark(); high < h.end[partition] {
		h.broken = append(h.broken, fmt.Sprintf("partition %d ended at %d for a client, and "+
			"ends at %d now", partition, h.end[partition], high))
	}
	h.end[partition] = page.GetHighWatermark()
	return next
}

// commit commits an offset and reads it back: nobody else commits this one.
func (h *history) commit(ctx context.Context, m *member, partition int32, offset int64) {
	groups := sluicev1.NewGroupServiceClient(m.client)
	r, err := groups.CommitOffsets(ctx, &sluicev1.CommitOffsetsRequest{
		Group: groupID, Offsets: []*sluicev1.CommittedOffset{{
			Topic: loadTopic, Partition: partition, Offset: offset,
		}},
	})
	h.mu.Lock()
	if err == nil && r.GetResults()[0].GetError() == nil {
		h.offset[partition] = offset
		h.commits++
	}
	least := h.offset[partition]
	h.mu.Unlock()
	found, err := groups.FetchOffsets(ctx, &sluicev1.FetchOffsetsRequest{
		Group: groupID, Topics: []string{loadTopic},
	})
	if err != nil {
		return
	}
	got := int64(0)
	for _, o := range found.GetOffsets() {
		if o.GetPartition() == partition {
			got = o.GetOffset()
		}
	}
	if got < least || got > offset {
		h.violation("I17: of partition %d, %d is committed, which was %d before and at most %d",
			partition, got, least, offset)
	}
}

// judge holds what clients were told against the logs of all nodes, which are
// stopped from here on as far as writing goes.
func (h *history) judge(logs []map[int32][]string) {
	final := logs[0]
	for i, other := range logs[1:] {
		for partition := range int32(partitions) {
			if !slices.Equal(final[partition], other[partition]) {
				h.violation("I7: nodes 0 and %d differ in partition %d: %d records and %d", i+1,
					partition, len(final[partition]), len(other[partition]))
			}
		}
	}
	where := map[string]place{}
	for partition, payloads := range final {
		last := map[string]int{}
		for offset, payload := range payloads {
			at := place{partition, int64(offset)}
			key := payload + "|" + strconv.Itoa(int(partition))
			if before, twice := where[key]; twice {
				h.violation("I14: %s is at %v and %v", payload, before, at)
			}
			where[key] = at
			producer, number, _ := strings.Cut(payload, "|")
			n, err := strconv.Atoi(number)
			if err != nil || n != last[producer] {
				h.violation("I14: %s at %v comes where number %d should", payload, at,
					last[producer])
			}
			last[producer] = n + 1
		}
	}
	for payload, at := range h.acked {
		if where[payload] != at {
			h.violation("I4: %s was acknowledged at %v, and is at %v", payload, at, where[payload])
		}
	}
	for at, payload := range h.read {
		there := final[at.partition]
		if at.offset >= int64(len(there)) || there[at.offset] != payload {
			h.violation("I3, I20: %q was read at %v, and something else is there", payload, at)
		}
	}
}

// replica reads what a node has of a partition, committed or not.
func replica(ctx context.Context, p *storage.Partition) ([]string, error) {
	var payloads []string
	for at := p.Start(); at < p.End(); {
		chunk, err := p.Read(ctx, storage.ReadRequest{From: at, MaxBytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		values, err := valuesOf(chunk.Batches)
		if err != nil {
			return nil, err
		}
		payloads, at = append(payloads, values...), chunk.NextOffset
	}
	return payloads, nil
}
