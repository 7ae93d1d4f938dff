package server_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

// benchNode is a node with a topic of 100 partitions.
func benchNode(b *testing.B) sluicev1.GroupServiceClient {
	b.Helper()
	n := node.Start(b)
	_, err := sluicev1.NewTopicServiceClient(n.Conn()).CreateTopic(b.Context(),
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 100})
	require.NoError(b, err)
	groups := sluicev1.NewGroupServiceClient(n.Conn())
	_, err = groups.CommitOffsets(b.Context(), commit("first", "t", 0, 1))
	require.NoError(b, err)
	return groups
}

// BenchmarkCommits commits one offset at a time, by so many callers at once, each
// for a group of its own, or all for one. Each commit is answered when it is on
// disk.
func BenchmarkCommits(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		for _, groups := range []string{"one", "many"} {
			b.Run(fmt.Sprintf("callers=%d/groups=%s", callers, groups), func(b *testing.B) {
				client := benchNode(b)
				b.ReportAllocs()
				var caller, offset atomic.Int64
				b.SetParallelism(max(1, callers/2)) // of two cores
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					id := "g"
					number := caller.Add(1)
					if groups == "many" {
						id = fmt.Sprintf("g%d", number)
					}
					for pb.Next() {
						_, err := client.CommitOffsets(b.Context(),
							commit(id, "t", int32(number%100), offset.Add(1)))
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

// benchMember is a member that waits for news and does what it is told at once.
type benchMember struct {
	client  sluicev1.GroupServiceClient
	request *sluicev1.ConsumerHeartbeatRequest
	owns    atomic.Int64
	done    chan struct{}
}

func joinBench(
	ctx context.Context, b *testing.B, client sluicev1.GroupServiceClient, id string,
) *benchMember {
	m := &benchMember{
		client: client, done: make(chan struct{}),
		request: &sluicev1.ConsumerHeartbeatRequest{
			Group: "g", MemberId: id, Owned: &sluicev1.Assignment{},
			Subscription: &sluicev1.Subscription{Topics: []string{"t"}},
			MaxWait:      durationpb.New(5 * time.Second),
		},
	}
	require.NoError(b, m.beat(ctx))
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := m.beat(ctx); err != nil && ctx.Err() == nil {
				b.Error(err)
				return
			}
		}
	}()
	return m
}

func (m *benchMember) beat(ctx context.Context) error {
	answer, err := m.client.ConsumerHeartbeat(ctx, m.request)
	if err != nil {
		return err
	}
	m.request.MemberEpoch, m.request.Owned = answer.GetMemberEpoch(), answer.GetAssignment()
	n := 0
	for _, t := range answer.GetAssignment().GetTopics() {
		n += len(t.GetPartitions())
	}
	m.owns.Store(int64(n))
	return nil
}

// settled waits until members own all 100 partitions and the group is stable.
func settled(b *testing.B, client sluicev1.GroupServiceClient, members []*benchMember) {
	b.Helper()
	for {
		owned := int64(0)
		for _, m := range members {
			owned += m.owns.Load()
		}
		if owned == 100 {
			got, err := client.GetGroup(b.Context(), &sluicev1.GetGroupRequest{Group: "g"})
			require.NoError(b, err)
			stable := sluicev1.GroupState_GROUP_STATE_STABLE
			if got.GetGroup().GetState() == stable &&
				int(got.GetGroup().GetMemberCount()) == len(members) {
				return
			}
		}
		select {
		case <-time.After(200 * time.Microsecond):
		case <-b.Context().Done():
			b.Fatal("it never settled")
		}
	}
}

// BenchmarkRebalance lets one more member join a group of a topic with 100
// partitions, and leave again. An operation is both: from the join until all
// partitions are owned by whom they should be, and from the leaving likewise.
// Every step is written to disk, and members do what they are told at once.
func BenchmarkRebalance(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			client := benchNode(b)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			members := make([]*benchMember, n)
			for i := range members {
				members[i] = joinBench(ctx, b, client, fmt.Sprintf("m%03d", i))
			}
			settled(b, client, members)
			defer func() {
				cancel()
				for _, m := range members {
					<-m.done
				}
			}()
			joins := time.Duration(0)
			for b.Loop() {
				begun := time.Now()
				one, stop := context.WithCancel(ctx)
				more := joinBench(one, b, client, "zz")
				settled(b, client, append(members[:n:n], more))
				joins += time.Since(begun)
				stop()
				<-more.done
				more.request.MemberEpoch = -1
				require.NoError(b, more.beat(ctx))
				settled(b, client, members)
			}
			b.ReportMetric(joins.Seconds()*1000/float64(b.N), "ms/join")
		})
	}
}

// BenchmarkConsume reads records through one stream, in memory, of 1 KiB each.
func BenchmarkConsume(b *testing.B) {
	n := node.Start(b)
	conn := n.Dial()
	_, err := sluicev1.NewTopicServiceClient(conn).CreateTopic(b.Context(),
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 1})
	require.NoError(b, err)
	records := make([]*sluicev1.ProduceRecord, 1000)
	for i := range records {
		records[i] = &sluicev1.ProduceRecord{Value: make([]byte, 1024)}
	}
	const total = 20_000
	log := sluicev1.NewLogServiceClient(conn)
	for range total / len(records) {
		_, err := log.Produce(b.Context(),
			&sluicev1.ProduceRequest{Topic: "t", Records: records})
		require.NoError(b, err)
	}
	b.SetBytes(total * 1024)
	b.ReportAllocs()
	run := 0
	for b.Loop() {
		run++
		stream, err := sluicev1.NewGroupServiceClient(conn).Consume(b.Context())
		require.NoError(b, err)
		require.NoError(b, stream.Send(&sluicev1.ConsumeRequest{
			Event: &sluicev1.ConsumeRequest_Join{Join: joins(fmt.Sprintf("g%d", run), "t")},
		}))
		for got := 0; got < total; {
			m, err := stream.Recv()
			require.NoError(b, err)
			got += len(m.GetRecords().GetRecords())
		}
		require.NoError(b, stream.CloseSend())
	}
	b.ReportMetric(float64(b.N*total)/b.Elapsed().Seconds(), "records/s")
}
