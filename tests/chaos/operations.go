package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// operator does what operators do, while everything else happens: moves
// partitions, elects leaders, changes settings, and deletes topics and makes them
// again.
type operator struct {
	c      *cluster
	ledger *ledger       // for violations
	calm   *sync.RWMutex // held while nothing may be moved
	random *rand.Rand
	done   int
}

// run operates until ctx ends. What a cluster that is broken refuses is tried
// another time; what it must never answer is a violation.
func (o *operator) run(ctx context.Context) {
	for ctx.Err() == nil {
		o.calm.RLock()
		call, cancel := context.WithTimeout(ctx, callTime)
		err := o.operate(call, o.c.nodes[o.random.IntN(len(o.c.nodes))])
		o.calm.RUnlock()
		cancel()
		switch status.Code(err) {
		case codes.OK:
			o.done++
		case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unimplemented:
			o.ledger.violation("an operator was told: %v", err)
		}
		_ = sleep(ctx, time.Duration(300+o.random.IntN(2000))*time.Millisecond)
	}
}

// operate does one thing.
func (o *operator) operate(ctx context.Context, node *process) error {
	cluster := sluicev1.NewClusterServiceClient(node.conn)
	configs := sluicev1.NewConfigServiceClient(node.conn)
	nodes := make([]int32, 0, len(o.c.nodes))
	for _, i := range o.random.Perm(len(o.c.nodes)) {
		nodes = append(nodes, int32(i))
	}
	move := func(topic string, partition int32, to []int32) error {
		_, err := cluster.ReassignPartitions(ctx, &sluicev1.ReassignPartitionsRequest{
			Reassignments: []*sluicev1.PartitionReassignment{
				{Topic: topic, Partition: partition, ReplicaIds: to},
			},
		})
		return err
	}
	var err error
	switch o.random.IntN(6) {
	case 0:
		_, err = cluster.ElectLeaders(ctx, &sluicev1.ElectLeadersRequest{
			ElectionType: sluicev1.ElectionType_ELECTION_TYPE_PREFERRED, Topic: loadTopic,
		})
	case 1:
		_, err = configs.AlterConfigs(ctx, &sluicev1.AlterConfigsRequest{
			Resource: &sluicev1.AlterConfigsRequest_Topic{Topic: loadTopic},
			Configs: map[string]string{
				"retention.ms": fmt.Sprint(1_000_000_000 + o.random.IntN(1000)),
			},
		})
	case 2:
		return move(loadTopic, o.random.Int32N(partitions), nodes) // the same, in another order
	default:
		return move(movedTopic, o.random.Int32N(movedPartitions), nodes[:min(2, len(nodes))])
	}
	return err
}

// isGone reports whether an error says that there is no such topic.
func isGone(err error) bool {
	return err != nil && fault.From(err).Fault == fault.UnknownTopicOrPartition
}

// insist makes a call by way of any node until it succeeds, or ends with an error
// that is not for trying again.
func (o *operator) insist(
	ctx context.Context, call func(context.Context, *process) error,
) error {
	deadline := time.Now().Add(settleLimit)
	for {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		err := call(once, o.c.nodes[o.random.IntN(len(o.c.nodes))])
		cancel()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if !again(err) && fault.From(err).Fault != fault.InvalidReplicationFactor {
			return err // too few nodes are there at the moment, or it is for good
		}
		_ = sleep(context.WithoutCancel(ctx), retryPause)
	}
}

// rebornRecords is how many records each life of a topic gets.
const rebornRecords = 5

// reincarnate makes a topic, writes to it, reads all of it, and deletes it, over
// and over: what an earlier topic of the name held must never be seen again, and
// what this one was given must be there. A request whose answer was lost may be
// worked on late, and then writes to whatever topic has the name.
func (o *operator) reincarnate(ctx context.Context, topic string) {
	late := map[string]bool{}
	for life := 0; ctx.Err() == nil; life++ {
		if err := o.live(ctx, topic, fmt.Sprintf("life %d", life), late); err != nil {
			o.ledger.violation("%s, life %d: %v", topic, life, err)
			return
		}
		o.done++
		_ = sleep(ctx, time.Duration(o.random.IntN(1000))*time.Millisecond)
	}
}

func (o *operator) live(
	ctx context.Context, topic, life string, late map[string]bool,
) error {
	err := o.insist(ctx, func(ctx context.Context, p *process) error {
		_, err := sluicev1.NewTopicServiceClient(p.conn).CreateTopic(ctx,
			&sluicev1.CreateTopicRequest{Topic: topic, PartitionCount: 1})
		return err
	})
	// An earlier try may have made it, whose answer was lost.
	if err != nil && fault.From(err).Fault != fault.TopicAlreadyExists {
		return fmt.Errorf("creating it: %w", err)
	}
	acked, err := o.fill(ctx, topic, life, late)
	if err != nil {
		return fmt.Errorf("writing to it: %w", err)
	}
	read, err := o.readBack(ctx, topic, slices.Max(slices.Collect(maps.Keys(acked)))+1)
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if err := sameLife(life, acked, read, late); err != nil {
		return err
	}
	err = o.insist(ctx, func(ctx context.Context, p *process) error {
		_, err := sluicev1.NewTopicServiceClient(p.conn).DeleteTopic(ctx,
			&sluicev1.DeleteTopicRequest{Topic: topic})
		return err
	})
	if err != nil && !isGone(err) {
		return fmt.Errorf("deleting it: %w", err)
	}
	return nil
}

// fill writes the records of a life and returns where they are. Those of which a
// try went unanswered are late from then on.
func (o *operator) fill(
	ctx context.Context, topic, life string, late map[string]bool,
) (map[int64]string, error) {
	acked := map[int64]string{}
	for n := range rebornRecords {
		payload := fmt.Sprintf("%s|%d", life, n)
		err := o.insist(ctx, func(ctx context.Context, p *process) error {
			r, err := sluicev1.NewLogServiceClient(p.conn).Produce(ctx, &sluicev1.ProduceRequest{
				Topic: topic, Timeout: durationpb.New(callTime),
				IdempotencyKey: payload,
				Records:        []*sluicev1.ProduceRecord{{Value: []byte(payload)}},
			})
			if err == nil {
				acked[r.GetResults()[0].GetOffset()] = payload
			} else {
				late[payload] = true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return acked, nil
}

// readBack reads a topic from its beginning to an offset.
func (o *operator) readBack(
	ctx context.Context, topic string, end int64,
) (map[int64]string, error) {
	read := map[int64]string{}
	for next := int64(0); next < end; {
		err := o.insist(ctx, func(ctx context.Context, p *process) error {
			page, err := sluicev1.NewLogServiceClient(p.conn).Fetch(ctx, &sluicev1.FetchRequest{
				Topic: topic, Offset: next, MaxWait: durationpb.New(time.Second),
			})
			for _, r := range page.GetRecords() {
				read[r.GetOffset()] = string(r.GetValue())
				next = r.GetOffset() + 1
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return read, nil
}

// sameLife reports whether a topic holds what it was given in this life, and of
// others nothing but what came late.
func sameLife(life string, acked, read map[int64]string, late map[string]bool) error {
	for offset, payload := range read {
		if !strings.HasPrefix(payload, life+"|") && !late[payload] {
			return fmt.Errorf("it holds %q at %d, of another life", payload, offset)
		}
	}
	for offset, payload := range acked {
		if read[offset] != payload {
			return fmt.Errorf("it holds %q at %d, where %q was acknowledged", read[offset], offset,
				payload)
		}
	}
	return nil
}
