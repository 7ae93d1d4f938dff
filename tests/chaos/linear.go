package chaos

import (
	"context"
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
	value        string // appended
	offset       int64  // given, read or committed
	call, answer time.Time
	unknown      bool // no answer that says what happened
}

type kind int

const (
	appends   kind = iota // a record, without a producer id and without a second try
	ends                  // where does the log end?
	commits               // an offset of a group
	committed             // what offset was committed?
)

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
	for n := 0; ctx.Err() == nil; n++ {
		node := c.nodes[random.IntN(len(c.nodes))]
		o := operation{
			client: client, partition: random.Int32N(partitions), call: time.Now(),
			kind: kind(random.IntN(4)), value: fmt.Sprintf("%d-%d", client, n),
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		err := h.make(call, node, &o, n)
		cancel()
		o.answer = time.Now()
		reads := o.kind == ends || o.kind == committed
		switch {
		case err == nil:
			h.add(o)
		case reads, refused(err):
		default:
			o.unknown = true
			h.add(o)
		}
		if err != nil && !again(err) {
			l.violation("a single operation of client %d: %v", client, err)
		}
		_ = sleep(ctx, time.Duration(10+random.IntN(60))*time.Millisecond)
	}
}

// refused reports whether an error says that nothing was written.
func refused(err error) bool {
	switch fault.From(err).Fault {
	case fault.StorageFull, fault.NotEnoughReplicas, fault.LeaderNotAvailable:
		return true
	}
	return false
}

func (h *history) make(ctx context.Context, node *process, o *operation, n int) error {
	log := sluicev1.NewLogServiceClient(node.conn)
	groups := sluicev1.NewGroupServiceClient(node.conn)
	switch o.kind {
	case appends:
		r, err := log.Produce(ctx, &sluicev1.ProduceRequest{
			Topic: linearTopic, Partition: &o.partition, Timeout: durationpb.New(callTime),
			Records: []*sluicev1.ProduceRecord{{Value: []byte(o.value)}},
		})
		if err == nil {
			o.offset = r.GetResults()[0].GetOffset()
		}
		return err
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
// final log tells the offset happens exactly when the log ends there.
func logModel(end int64, s step) (int64, bool) {
	if s.kind == appends {
		return end + 1, end == s.offset
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
			case appends:
				offset, there := at[o.value]
				switch {
				case !there && o.unknown:
					continue // it was not written
				case !there:
					l.violation("linear-%d: %s was acknowledged at %d and is lost", partition,
						o.value, o.offset)
					continue
				case !o.unknown && offset != o.offset:
					l.violation("linear-%d: %s was acknowledged at %d and is at %d", partition,
						o.value, o.offset, offset)
				}
				op.Input = step{kind: appends, offset: offset}
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
