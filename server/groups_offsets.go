package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
)

// The bounds of a call about offsets.
const (
	commitCountMax      = 10_000
	offsetTopicCountMax = 1000
)

// CommitOffsets stores offsets of a group.
func (g *groupService) CommitOffsets(
	ctx context.Context, request *sluicev1.CommitOffsetsRequest,
) (*sluicev1.CommitOffsetsResponse, error) {
	wanted, err := offsetsToCommit(request.GetOffsets())
	if err != nil {
		return nil, err
	}
	by := group.Committer{
		MemberID: request.GetMemberId(), Epoch: request.GetMemberEpoch(),
		InstanceID: request.GetInstanceId(),
	}
	if by.MemberID != "" && request.MemberEpoch == nil {
		return nil, fault.InvalidRequest.With().At("member_epoch", "is required with member_id")
	}
	coordinator, err := g.makingCoordinator(ctx, request.GetGroup())
	if err != nil {
		return nil, err
	}
	check := g.s.canCommitAfter(g.s.learnOffsets(ctx, wanted))
	results, err := coordinator.Commit(ctx, request.GetGroup(), by, wanted, check)
	if err != nil {
		return nil, err
	}
	return commitResponse(wanted, results), nil
}

func commitResponse(wanted []group.Offset, results []error) *sluicev1.CommitOffsetsResponse {
	response := &sluicev1.CommitOffsetsResponse{}
	for i, err := range results {
		result := &sluicev1.CommitResult{
			Topic: wanted[i].Topic, Partition: wanted[i].Partition,
		}
		if err != nil {
			result.Error = fault.Status(err).Proto()
		}
		response.Results = append(response.Results, result)
	}
	return response
}

// offsetsToCommit reads the offsets of a commit.
func offsetsToCommit(messages []*sluicev1.CommittedOffset) ([]group.Offset, error) {
	if n := len(messages); n == 0 || n > commitCountMax {
		return nil, fault.InvalidRequest.With().At("offsets",
			fmt.Sprintf("has %d offsets, allowed is 1 to %d", n, commitCountMax))
	}
	wanted := make([]group.Offset, 0, len(messages))
	for i, m := range messages {
		if m.GetOffset() < 0 {
			return nil, fault.InvalidRequest.With().At(fmt.Sprintf("offsets[%d].offset", i),
				fmt.Sprintf("is %d, at least 0", m.GetOffset()))
		}
		o := group.Offset{
			Place: group.Place{Topic: m.GetTopic(), Partition: m.GetPartition()},
			Committed: group.Committed{
				Offset: m.GetOffset(), LeaderEpoch: -1, Metadata: m.GetMetadata(),
			},
		}
		if m.LeaderEpoch != nil {
			if m.GetLeaderEpoch() < 0 {
				return nil, fault.InvalidRequest.With().At(
					fmt.Sprintf("offsets[%d].leader_epoch", i),
					fmt.Sprintf("is %d, at least 0", m.GetLeaderEpoch()))
			}
			o.LeaderEpoch = m.GetLeaderEpoch()
		}
		wanted = append(wanted, o)
	}
	return wanted, nil
}

// canCommit reports why a partition cannot have a committed offset, or nil.
func (s *Server) canCommit(at group.Place) error {
	t, err := s.topic(at.Topic)
	if err != nil {
		return err
	}
	if _, ok := s.cluster.Topic(at.Topic); !ok { // being deleted
		return fault.UnknownTopicOrPartition.With("topic", at.Topic)
	}
	if at.Partition < 0 || int(at.Partition) >= len(t.Partitions) {
		return fault.UnknownPartition.With("topic", at.Topic, "partition", at.Partition)
	}
	return nil
}

// canCommitAfter is canCommit after a learn that said so: of the partitions that this
// node does not know it says unsure, and the others can have an offset.
func (s *Server) canCommitAfter(unsure error) func(group.Place) error {
	return func(at group.Place) error { return orUnsure(s.canCommit(at), unsure) }
}

// FetchOffsets returns the offsets that a group has stored.
func (g *groupService) FetchOffsets(
	_ context.Context, request *sluicev1.FetchOffsetsRequest,
) (*sluicev1.FetchOffsetsResponse, error) {
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	found, err := coordinator.Fetch(request.GetGroup(), request.GetTopics())
	if err != nil {
		return nil, err
	}
	return &sluicev1.FetchOffsetsResponse{Offsets: offsetMessages(found)}, nil
}

func offsetMessages(offsets []group.Offset) []*sluicev1.CommittedOffset {
	messages := make([]*sluicev1.CommittedOffset, 0, len(offsets))
	for _, o := range offsets {
		m := &sluicev1.CommittedOffset{
			Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Metadata: o.Metadata,
			CommitTime: timestamppb.New(time.UnixMilli(o.CommitMillis)),
		}
		if o.LeaderEpoch >= 0 {
			m.LeaderEpoch = &o.LeaderEpoch
		}
		messages = append(messages, m)
	}
	return messages
}

// DeleteOffsets drops offsets of topics that no member wants.
func (g *groupService) DeleteOffsets(
	ctx context.Context, request *sluicev1.DeleteOffsetsRequest,
) (*sluicev1.DeleteOffsetsResponse, error) {
	if n := len(request.GetTopics()); n == 0 || n > offsetTopicCountMax {
		return nil, fault.InvalidRequest.With().At("topics",
			fmt.Sprintf("has %d topics, allowed is 1 to %d", n, offsetTopicCountMax))
	}
	named, err := assignmentOf("topics", request.GetTopics())
	if err != nil {
		return nil, err
	}
	whole := map[string]bool{}
	var topics []string
	for _, t := range request.GetTopics() {
		topics = append(topics, t.GetTopic())
		if len(t.GetPartitions()) == 0 {
			whole[t.GetTopic()] = true
		}
	}
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	dropped, err := coordinator.DeleteOffsets(ctx, request.GetGroup(), topics,
		func(at group.Place) bool { return whole[at.Topic] || named.Has(at) })
	if err != nil {
		return nil, err
	}
	return &sluicev1.DeleteOffsetsResponse{Offsets: offsetMessages(dropped)}, nil
}

// reset is a ResetOffsets that is worked on.
type reset struct {
	s       *Server
	request *sluicev1.ResetOffsetsRequest
	stored  map[group.Place]int64
	places  []group.Place
	results []*sluicev1.ResetResult
	unsure  error // what learn has said of the topics
}

// ResetOffsets moves the offsets of a group without members.
func (g *groupService) ResetOffsets(
	ctx context.Context, request *sluicev1.ResetOffsetsRequest,
) (*sluicev1.ResetOffsetsResponse, error) {
	if err := checkReset(request); err != nil {
		return nil, err
	}
	coordinator, err := g.makingCoordinator(ctx, request.GetGroup())
	if err != nil {
		return nil, err
	}
	found, err := coordinator.Get(request.GetGroup())
	switch {
	case errors.Is(err, fault.GroupIDNotFound) && len(request.GetTopics()) > 0:
	case err != nil:
		return nil, err
	case found.MemberCount > 0:
		return nil, fault.GroupNotEmpty.With("group", request.GetGroup())
	}
	offsets, err := coordinator.Fetch(request.GetGroup(), nil)
	if err != nil {
		return nil, err
	}
	r := &reset{s: g.s, request: request, stored: map[group.Place]int64{}}
	for _, o := range offsets {
		r.stored[o.Place] = o.Offset
	}
	r.learnTopics(ctx)
	if err := r.choose(); err != nil {
		return nil, err
	}
	g.s.eachPartition(ctx, len(r.places), r.decide)
	if !request.GetValidateOnly() {
		if err := r.store(ctx, coordinator); err != nil {
			return nil, err
		}
	}
	return &sluicev1.ResetOffsetsResponse{Results: r.results}, nil
}

func checkReset(request *sluicev1.ResetOffsetsRequest) error {
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf(format, args...))
	}
	if n := len(request.GetTopics()); n > offsetTopicCountMax {
		return bad("topics", "has %d topics, at most %d", n, offsetTopicCountMax)
	}
	switch to := request.GetTo().(type) {
	case *sluicev1.ResetOffsetsRequest_At:
		_, isTime := readTime(to.At)
		if !isTime && to.At != "earliest" && to.At != "latest" && to.At != "current" {
			return bad("at", "is none of earliest, latest, current, a time as in RFC 3339, and "+
				"milliseconds since 1970")
		}
	case *sluicev1.ResetOffsetsRequest_Offset:
		if to.Offset < 0 {
			return bad("offset", "is %d, at least 0", to.Offset)
		}
	case *sluicev1.ResetOffsetsRequest_Age:
		if to.Age.CheckValid() != nil || to.Age.AsDuration() < 0 {
			return bad("age", "is no span of time of 0 or more")
		}
	case *sluicev1.ResetOffsetsRequest_ShiftCount:
	default:
		return bad("to", "is missing: give at, offset, shift_count or age")
	}
	return nil
}

// learnTopics makes sure of the topics that the request names.
func (r *reset) learnTopics(ctx context.Context) {
	names := make([]place, 0, len(r.request.GetTopics()))
	for _, t := range r.request.GetTopics() {
		names = append(names, place{t.GetTopic(), slices.Max(append(t.GetPartitions(), 0))})
	}
	r.unsure = r.s.learn(ctx, names...)
}

// choose lists the partitions to move, by topic and partition.
func (r *reset) choose() error {
	places := map[group.Place]bool{}
	for i, t := range r.request.GetTopics() {
		topic, err := r.s.topic(t.GetTopic())
		if err == nil && len(t.GetPartitions()) == 0 {
			for p := range topic.Partitions {
				places[group.Place{Topic: t.GetTopic(), Partition: int32(p)}] = true
			}
			continue
		}
		if len(t.GetPartitions()) == 0 {
			return fmt.Errorf("topics[%d]: %w", i, orUnsure(err, r.unsure))
		}
		for _, p := range t.GetPartitions() {
			places[group.Place{Topic: t.GetTopic(), Partition: p}] = true
		}
	}
	if len(r.request.GetTopics()) == 0 {
		for place := range r.stored {
			places[place] = true
		}
	}
	if len(places) > commitCountMax {
		return fault.InvalidRequest.With().At("topics", fmt.Sprintf(
			"has %d partitions, at most %d at once", len(places), commitCountMax))
	}
	for place := range places {
		r.places = append(r.places, place)
	}
	slices.SortFunc(r.places, group.Place.Compare)
	r.results = make([]*sluicev1.ResetResult, len(r.places))
	for i, place := range r.places {
		r.results[i] = &sluicev1.ResetResult{Topic: place.Topic, Partition: place.Partition}
		if at, ok := r.stored[place]; ok {
			r.results[i].PreviousOffset = &at
		}
	}
	return nil
}

// decide finds where one partition is moved to.
func (r *reset) decide(ctx context.Context, i int) {
	at, err := r.target(ctx, r.places[i])
	if err != nil {
		r.results[i].Error = fault.Status(err).Proto()
		return
	}
	r.results[i].Offset = &at
}

// target returns the offset that a partition is moved to, within its log.
func (r *reset) target(ctx context.Context, at group.Place) (int64, error) {
	if err := orUnsure(r.s.canCommit(at), r.unsure); err != nil {
		return 0, err
	}
	start, err := r.s.offsetAt(ctx, at.Topic, at.Partition, "earliest")
	if err != nil {
		return 0, err
	}
	end, err := r.s.offsetAt(ctx, at.Topic, at.Partition, "latest")
	if err != nil {
		return 0, err
	}
	stored, has := r.stored[at]
	if !has {
		stored = end
	}
	want := int64(0)
	switch to := r.request.GetTo().(type) {
	case *sluicev1.ResetOffsetsRequest_Offset:
		want = to.Offset
	case *sluicev1.ResetOffsetsRequest_ShiftCount:
		want = shifted(stored, to.ShiftCount)
	case *sluicev1.ResetOffsetsRequest_Age:
		then := r.s.cfg.Clock().Add(-to.Age.AsDuration()).UnixMilli()
		want, err = r.s.offsetAt(ctx, at.Topic, at.Partition,
			strconv.FormatInt(max(then, 0), 10))
	case *sluicev1.ResetOffsetsRequest_At:
		if want = stored; to.At != "current" {
			want, err = r.s.offsetAt(ctx, at.Topic, at.Partition, to.At)
		}
	}
	return min(max(want, start), end), err
}

// shifted adds without going over the ends of the type.
func shifted(offset, by int64) int64 {
	sum := offset + by
	if by > 0 && sum < offset {
		return 1<<63 - 1
	}
	return sum
}

// store commits what was decided.
func (r *reset) store(ctx context.Context, coordinator *group.Coordinator) error {
	var wanted []group.Offset
	var results []*sluicev1.ResetResult
	for i, result := range r.results {
		if result.Offset != nil {
			wanted = append(wanted, group.Offset{
				Place:     r.places[i],
				Committed: group.Committed{Offset: result.GetOffset(), LeaderEpoch: -1},
			})
			results = append(results, result)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	errs, err := coordinator.Commit(ctx, r.request.GetGroup(), group.Committer{}, wanted,
		r.s.canCommitAfter(r.unsure))
	if errors.Is(err, fault.UnknownMemberID) { // one has joined meanwhile
		return fault.GroupNotEmpty.With("group", r.request.GetGroup())
	}
	if err != nil {
		return err
	}
	for i, err := range errs {
		if err != nil {
			results[i].Offset, results[i].Error = nil, fault.Status(err).Proto()
		}
	}
	return nil
}

// offsetAt finds an offset of a partition, as ListOffsets does, at its leader.
func (s *Server) offsetAt(
	ctx context.Context, topic string, partition int32, at string,
) (int64, error) {
	request := &sluicev1.ListOffsetsRequest{Topic: topic, Partition: partition, At: at}
	found := &sluicev1.ListOffsetsResponse{}
	here, err := s.askLeader(ctx, group.Place{Topic: topic, Partition: partition},
		sluicev1.LogService_ListOffsets_FullMethodName, request, found)
	if here {
		found, err = (&logService{s: s}).ListOffsets(ctx, request)
	}
	return found.GetOffset(), err
}

// eachPartition calls do for the numbers from 0 to count, some at the same time.
func (s *Server) eachPartition(
	ctx context.Context, count int, do func(ctx context.Context, i int),
) {
	const atOnce = 16
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i := range count {
		all.Go(func() error {
			do(ctx, i)
			return nil
		})
	}
	_ = all.Wait() // none fails
}
