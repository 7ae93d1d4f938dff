package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// operation is one call on a partition of the linear topic, or on a committed
// offset.
type operation struct {
	client       int
	partition    int32
	kind         kind
	value        string // appended, or read
	count        int    // of records that are appended together, 0 for one
	offset       int64  // given, read or committed
	expected     int64  // by a conditional append
	call, answer time.Time
	unknown      bool // no answer that says what happened
}

type kind int

const (
	appends     kind = iota // records, without a producer id and without a second try
	conditional             // likewise, if the log ends where is expected
	reads                   // what record is there?
	ends                    // where does the log end?
	commits                 // an offset of a group
	committed               // what offset was committed?
	kindCount   = iota
)

// payloads are the records that an operation appends.
func (o *operation) payloads() []string {
	if o.count < 2 {
		return []string{o.value}
	}
	var all []string
	for i := range o.count {
		all = append(all, fmt.Sprintf("%s.%d", o.value, i))
	}
	return all
}

func (o *operation) records() (records []*sluicev1.ProduceRecord) {
	for _, payload := range o.payloads() {
		records = append(records, &sluicev1.ProduceRecord{Value: []byte(payload)})
	}
	return records
}

// history is the operations of all clients.
type history struct {
	mu   sync.Mutex
	base time.Time
	all  []operation
}

func (h *history) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, o)
}

// linearGroup is the group whose committed offsets are checked.
const linearGroup = "linear"

// operate makes single operations until ctx ends.
func (h *history) operate(
	ctx context.Context, c *cluster, l *ledger, client int, partitions int32, random *rand.Rand,
) {
	known := map[int32]int64{} // where logs end at least
	for n := 0; ctx.Err() == nil; n++ {
		node := c.nodes[random.IntN(len(c.nodes))]
		o := operation{
			client: client, partition: random.Int32N(partitions), call: time.Now(),
			kind: kind(random.IntN(kindCount)), value: fmt.Sprintf("%d-%d", client, n),
			count: 1 + random.IntN(3),
		}
		o.expected = known[o.partition]
		if o.kind == reads {
			if o.expected == 0 {
				continue // nothing is known to be there
			}
			o.offset = random.Int64N(o.expected)
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		err := h.make(call, node, &o, n)
		cancel()
		o.answer = time.Now()
		asks := o.kind == reads || o.kind == ends || o.kind == committed
		switch {
		case errors.Is(err, errNothing):
			err = nil
		case err == nil:
			h.add(o)
			known[o.partition] = max(known[o.partition], o.end())
		case asks, refused(err):
		default:
			o.unknown = true
			h.add(o)
		}
		if err != nil && !again(err) && fault.From(err).Fault != fault.OffsetMismatch {
			l.violation("a single operation of client %d: %v", client, err)
		}
		_ = sleep(ctx, time.Duration(10+random.IntN(60))*time.Millisecond)
	}
}

// errNothing is a read that found nothing yet: a replica serves what it knows to be
// committed, which may be older.
var errNothing = errors.New("nothing is there yet")

// end is where the log ends at least, after an operation that was answered.
func (o *operation) end() int64 {
	switch o.kind {
	case appends, conditional:
		return o.offset + int64(o.count)
	case reads:
		return o.offset + 1
	case ends:
		return o.offset
	case commits, committed, kindCount: // say nothing of the log
	}
	return 0
}

// refused reports whether an error says that nothing was written.
func refused(err error) bool {
	switch fault.From(err).Fault {
	case fault.StorageFull, fault.NotEnoughReplicas, fault.LeaderNotAvailable,
		fault.OffsetMismatch:
		return true
	}
	return false
}

func (h *history) make(ctx context.Context, node *process, o *operation, n int) error {
	log := sluicev1.NewLogServiceClient(node.conn)
	groups := sluicev1.NewGroupServiceClient(node.conn)
	switch o.kind {
	case appends, conditional:
		request := &sluicev1.ProduceRequest{
			Topic: linearTopic, Partition: &o.partition, Timeout: durationpb.New(callTime),
			Records: o.records(),
		}
		if o.kind == conditional {
			request.ExpectedOffset = &o.expected
		}
		r, err := log.Produce(ctx, request)
		if err == nil {
			o.offset = r.GetResults()[0].GetOffset()
		}
		return err
	case reads:
		r, err := log.Fetch(ctx, &sluicev1.FetchRequest{
			Topic: linearTopic, Partition: o.partition, Offset: o.offset, MaxRecords: 1,
		})
		if err != nil || len(r.GetRecords()) == 0 {
			return cmp.Or(err, errNothing)
		}
		o.offset, o.value = r.GetRecords()[0].GetOffset(), string(r.GetRecords()[0].GetValue())
		return nil
	case ends:
		r, err := log.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
			Topic: linearTopic, Partition: o.partition,
		})
		o.offset = r.GetOffset()
		return err
	case commits:
		o.offset = int64(o.client)<<32 | int64(n)
		r, err := groups.CommitOffsets(ctx, &sluicev1.CommitOffsetsRequest{
			Group: linearGroup, Offsets: []*sluicev1.CommittedOffset{{
				Topic: linearTopic, Partition: o.partition, Offset: o.offset,
			}},
		})
		if err == nil && r.GetResults()[0].GetError() != nil {
			return fault.RequestTimedOut.Because("%s", r.GetResults()[0].GetError().GetMessage())
		}
		return err
	}
	r, err := groups.FetchOffsets(ctx, &sluicev1.FetchOffsetsRequest{
		Group: linearGroup, Topics: []string{linearTopic},
	})
	o.offset = -1
	for _, found := range r.GetOffsets() {
		if found.GetPartition() == o.partition {
			o.offset = found.GetOffset()
		}
	}
	return err
}

// step is the input and the output of an operation in the models.
type step struct {
	kind   kind
	offset int64 // appended at, committed or read
	count  int64 // of records that are appended
}

// typed gives a model its types.
func typed(initial int64, model func(state int64, s step) (int64, bool)) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, input, _ any) (bool, any) {
			before, known := state.(int64)
			s, ok := input.(step)
			if !known || !ok {
				return false, state
			}
			after, holds := model(before, s)
			return holds, after
		},
	}
}

// logModel is a partition as a number: where it ends. An append of which the
// final log tells the offset happens exactly when the log ends there, a read of a
// record at any time after.
func logModel(end int64, s step) (int64, bool) {
	switch s.kind {
	case appends:
		return end + s.count, end == s.offset
	case reads:
		return end, end > s.offset
	}
	return end, end == s.offset
}

// offsetModel is a committed offset: a register.
func offsetModel(committed int64, s step) (int64, bool) {
	if s.kind == commits {
		return s.offset, true
	}
	return committed, committed == s.offset
}

const checkTime = 2 * time.Minute

// check holds the operations against the models. final is the linear topic as it
// is in the end: payloads in the order of their offsets, by partition.
func (h *history) check(l *ledger, final map[int32][]string, partitions int32) (checked int) {
	last := time.Now()
	seen := map[int64]bool{} // offsets that were read as committed; each was committed once
	for _, o := range h.all {
		seen[o.offset] = seen[o.offset] || o.kind == committed
	}
	for partition := range partitions {
		at := map[string]int64{}
		for offset, payload := range final[partition] {
			if _, twice := at[payload]; twice {
				l.violation("linear-%d: %s is there twice", partition, payload)
			}
			at[payload] = int64(offset)
		}
		var log, offsets []porcupine.Operation
		for _, o := range h.all {
			if o.partition != partition {
				continue
			}
			op := porcupine.Operation{
				ClientId: o.client, Call: o.call.Sub(h.base).Nanoseconds(),
				Return: o.answer.Sub(h.base).Nanoseconds(),
				Input:  step{kind: o.kind, offset: o.offset},
			}
			if o.unknown {
				op.Return = last.Sub(h.base).Nanoseconds()
			}
			switch o.kind {
			case appends, conditional:
				offset, there := h.found(l, &o, at)
				if !there {
					continue
				}
				op.Input = step{kind: appends, offset: offset, count: int64(len(o.payloads()))}
				log = append(log, op)
			case reads:
				if offset, there := at[o.value]; !there || offset != o.offset {
					l.violation("linear-%d: %s was read at %d, where something else is",
						partition, o.value, o.offset)
				}
				log = append(log, op)
			case ends:
				log = append(log, op)
			case commits, committed:
				if o.unknown && !seen[o.offset] {
					continue // nothing depends on whether it was made
				}
				offsets = append(offsets, op)
			}
		}
		checked += len(log) + len(offsets)
		verdict(l, fmt.Sprintf("the log of linear-%d", partition), 0, logModel, log)
		verdict(l, fmt.Sprintf("the committed offset of linear-%d", partition), -1,
			offsetModel, offsets)
	}
	return checked
}

// found returns where an append is in the final log. One of which nobody knows may not
// be there; one that is must be there as a whole, where its answer said or it was to be.
func (h *history) found(l *ledger, o *operation, at map[string]int64) (int64, bool) {
	all := o.payloads()
	first, there := at[all[0]]
	for i, payload := range all {
		offset, also := at[payload]
		if also != there || also && offset != first+int64(i) {
			l.violation("linear-%d: %v were written together, and %s is at %d (%v)", o.partition,
				all, payload, offset, also)
		}
	}
	switch {
	case !there && !o.unknown:
		l.violation("linear-%d: %s was acknowledged at %d and is lost", o.partition, o.value,
			o.offset)
	case there && !o.unknown && first != o.offset:
		l.violation("linear-%d: %s was acknowledged at %d and is at %d", o.partition, o.value,
			o.offset, first)
	case there && o.kind == conditional && first != o.expected:
		l.violation("linear-%d: %s was to be at %d or nowhere, and is at %d", o.partition, o.value,
			o.expected, first)
	}
	return first, there
}

func verdict(
	l *ledger, what string, initial int64, rule func(int64, step) (int64, bool),
	ops []porcupine.Operation,
) {
	switch porcupine.CheckOperationsTimeout(typed(initial, rule), ops, checkTime) {
	case porcupine.Illegal:
		l.violation("%s is not linearizable (%d operations)", what, len(ops))
	case porcupine.Unknown:
		l.violation("%s could not be checked within %v (%d operations)", what, checkTime, len(ops))
	}
}
