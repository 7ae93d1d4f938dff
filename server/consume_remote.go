package server

import (
	"context"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/storage"
)

// leaderOf returns the node that leads a partition, by the metadata.
func (s *Server) leaderOf(at group.Place) (route, error) {
	snapshot := s.cluster.Snapshot()
	t, ok := snapshot.Topic(at.Topic)
	switch {
	case !ok:
		return route{}, fault.UnknownTopicOrPartition.With("topic", at.Topic)
	case at.Partition < 0 || int(at.Partition) >= len(t.Partitions):
		return route{}, fault.UnknownPartition.With("topic", at.Topic,
			"partition", at.Partition)
	}
	leader := t.Partitions[at.Partition].Leader
	if leader == cluster.NoLeader {
		return route{}, fault.NotLeaderOrFollower.With("topic", at.Topic,
			"partition", at.Partition).Because("nobody leads it at the moment")
	}
	return route{node: leader, revision: snapshot.LastChange(), as: "its leader"}, nil
}

// askLeader makes a call about a partition at the node that leads it, where that
// is another one; here reports that it is this one, and nothing was done.
func (s *Server) askLeader(
	ctx context.Context, at group.Place, method string, request, reply proto.Message,
) (here bool, err error) {
	to, err := s.leaderOf(at)
	if err != nil {
		return false, err
	}
	if to.node == s.cluster.NodeID() {
		return true, nil
	}
	return false, s.send(ctx, to, method, request, reply)
}

// remoteSource is a partition that another node leads. A page is read when its
// turn has come, so nothing is kept here; the end of the log is waited for with a
// fetch of one record.
type remoteSource struct {
	s    *Server
	at   group.Place
	form form
	next atomic.Int64
}

func (r *remoteSource) fetch(
	ctx context.Context, request *sluicev1.FetchRequest,
) (*sluicev1.FetchResponse, error) {
	request.Topic, request.Partition = r.at.Topic, r.at.Partition
	request.Offset = r.next.Load()
	request.IsolationLevel = r.form.isolation
	reply := &sluicev1.FetchResponse{}
	here, err := r.s.askLeader(ctx, r.at, sluicev1.LogService_Fetch_FullMethodName, request,
		reply)
	if here { // it has moved to this node: open it again
		err = fault.NotLeaderOrFollower.With("topic", r.at.Topic, "partition", r.at.Partition)
	}
	return reply, err
}

func (r *remoteSource) read(ctx context.Context, bytesMax int) (page, error) {
	got, err := r.fetch(ctx, &sluicev1.FetchRequest{
		Format: r.form.format, MaxBytes: int32(max(bytesMax, 1)),
	})
	if err != nil {
		return page{}, err
	}
	r.next.Store(got.GetNextOffset())
	return page{
		records: got.GetRecords(), batches: got.GetRecordBatches(),
		start: storage.Offset(got.GetLogStartOffset()),
		end:   storage.Offset(got.GetHighWatermark()),
	}, nil
}

// mark returns how to wait for something new. An error ends the wait as well:
// the next read finds out.
func (r *remoteSource) mark() func(context.Context) {
	return func(ctx context.Context) {
		for {
			got, err := r.fetch(ctx, &sluicev1.FetchRequest{
				MaxBytes: 1, MaxRecords: 1,
				MaxWait: durationpb.New(r.s.static.GroupHeartbeatInterval),
			})
			if err != nil || len(got.GetRecords()) > 0 || got.GetNextOffset() != r.next.Load() {
				return
			}
		}
	}
}

func (r *remoteSource) give()           {}
func (r *remoteSource) position() int64 { return r.next.Load() }
func (r *remoteSource) seek(to int64)   { r.next.Store(to) }
