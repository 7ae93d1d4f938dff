package sluice

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// Groups returns every consumer group by id; only those in the states named, if any are.
func (c *Client) Groups(
	ctx context.Context, states ...sluicev1.GroupState,
) ([]*sluicev1.Group, error) {
	var groups []*sluicev1.Group
	request := &sluicev1.ListGroupsRequest{States: states}
	for {
		page, err := call(ctx, "listing groups", c.groups.ListGroups, request)
		if err != nil {
			return nil, err
		}
		groups = append(groups, page.GetGroups()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return groups, nil
		}
	}
}

// Group returns a consumer group. Errors: ErrGroupIDNotFound.
func (c *Client) Group(ctx context.Context, group string) (*sluicev1.Group, error) {
	answer, err := call(ctx, "describing group "+group, c.groups.GetGroup,
		&sluicev1.GetGroupRequest{Group: group})
	return answer.GetGroup(), err
}

// DeleteGroup deletes a group that has no members, with its offsets. Errors: ErrGroupIDNotFound.
func (c *Client) DeleteGroup(ctx context.Context, group string) error {
	_, err := call(ctx, "deleting group "+group, c.groups.DeleteGroup,
		&sluicev1.DeleteGroupRequest{Group: group})
	return err
}

// CommittedOffsets returns the offsets that a group has stored, by topic and partition; only
// those of the topics named, if any are. A group that does not exist has none.
func (c *Client) CommittedOffsets(
	ctx context.Context, group string, topics ...string,
) ([]*sluicev1.CommittedOffset, error) {
	answer, err := call(ctx, "reading the offsets of group "+group, c.groups.FetchOffsets,
		&sluicev1.FetchOffsetsRequest{Group: group, Topics: topics})
	return answer.GetOffsets(), err
}

// CommitOffsets stores offsets of a group and returns one result for each, in order: some may
// fail while others are stored.
func (c *Client) CommitOffsets(
	ctx context.Context, group string, offsets []*sluicev1.CommittedOffset,
) ([]*sluicev1.CommitResult, error) {
	answer, err := call(ctx, "committing offsets of group "+group, c.groups.CommitOffsets,
		&sluicev1.CommitOffsetsRequest{Group: group, Offsets: offsets})
	return answer.GetResults(), err
}

// DescribeGroup returns a group with its members, what each owns, and for each partition that the
// group owns or has stored an offset of how far it is behind (lag). Errors: ErrGroupIDNotFound.
func (c *Client) DescribeGroup(
	ctx context.Context, group string,
) (*sluicev1.DescribeGroupResponse, error) {
	return call(ctx, "describing group "+group, c.groups.DescribeGroup,
		&sluicev1.DescribeGroupRequest{Group: group})
}

// GroupReset says where ResetGroup moves the offsets of a group: ResetTo an Offset, ResetBy a
// number of records, or ResetIntoRange. The zero GroupReset is ResetIntoRange.
type GroupReset struct {
	to    *Offset
	shift int64
}

// ResetTo moves to the beginning, the end, an offset, a time or some time ago.
func ResetTo(to Offset) GroupReset { return GroupReset{to: &to} }

// ResetBy moves by so many offsets from what is stored: forward, or back if negative.
func ResetBy(count int64) GroupReset { return GroupReset{shift: count} }

// ResetIntoRange leaves what is stored as it is, but where the log does not hold it any more.
func ResetIntoRange() GroupReset { return GroupReset{} }

// apply writes the reset into a request.
func (r GroupReset) apply(request *sluicev1.ResetOffsetsRequest) {
	switch {
	case r.to == nil && r.shift != 0:
		request.To = &sluicev1.ResetOffsetsRequest_ShiftCount{ShiftCount: r.shift}
	case r.to == nil:
		request.To = &sluicev1.ResetOffsetsRequest_At{At: "current"}
	case r.to.kind == offsetNumber:
		request.To = &sluicev1.ResetOffsetsRequest_Offset{Offset: r.to.number}
	case r.to.kind == offsetAgo:
		request.To = &sluicev1.ResetOffsetsRequest_Age{Age: durationpb.New(r.to.ago)}
	default:
		request.To = &sluicev1.ResetOffsetsRequest_At{At: r.to.at(time.Now())}
	}
}

// ResetGroup moves the offsets of a group that has no members: of the partitions given, or of all
// that it has stored an offset of; a partition of -1 stands for all of its topic. With dryRun it
// only says what would be. It returns for each partition what was and what is stored. Errors:
// ErrNonEmptyGroup, ErrGroupIDNotFound; in results ErrUnknownTopicOrPartition.
func (c *Client) ResetGroup(
	ctx context.Context, group string, reset GroupReset, dryRun bool,
	partitions ...TopicPartition,
) ([]*sluicev1.ResetResult, error) {
	request := &sluicev1.ResetOffsetsRequest{
		Group: group, ValidateOnly: dryRun, Topics: topicPartitions(partitions),
	}
	reset.apply(request)
	answer, err := call(ctx, "resetting the offsets of group "+group, c.groups.ResetOffsets,
		request)
	return answer.GetResults(), err
}

// DeleteGroupOffsets deletes the offsets that a group has stored of partitions, to whose topics
// no member is subscribed, and returns those deleted; a partition of -1 stands for all of its
// topic. Errors: ErrGroupIDNotFound, ErrGroupSubscribedToTopic.
func (c *Client) DeleteGroupOffsets(
	ctx context.Context, group string, partitions ...TopicPartition,
) ([]*sluicev1.CommittedOffset, error) {
	answer, err := call(ctx, "deleting offsets of group "+group, c.groups.DeleteOffsets,
		&sluicev1.DeleteOffsetsRequest{Group: group, Topics: topicPartitions(partitions)})
	return answer.GetOffsets(), err
}

// topicPartitions groups partitions by topic; -1 makes it all of the topic.
func topicPartitions(partitions []TopicPartition) []*sluicev1.TopicPartitions {
	byTopic := map[string]*sluicev1.TopicPartitions{}
	whole := map[string]bool{}
	var out []*sluicev1.TopicPartitions
	for _, p := range partitions {
		t := byTopic[p.Topic]
		if t == nil {
			t = &sluicev1.TopicPartitions{Topic: p.Topic}
			byTopic[p.Topic] = t
			out = append(out, t)
		}
		if whole[p.Topic] = whole[p.Topic] || p.Partition == -1; whole[p.Topic] {
			t.Partitions = nil
			continue
		}
		t.Partitions = append(t.Partitions, p.Partition)
	}
	return out
}
