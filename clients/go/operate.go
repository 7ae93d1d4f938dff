package sluice

import (
	"context"
	"errors"
	"io"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// Reassignment is the replicas that a partition is to have.
type Reassignment struct {
	Topic     string
	Partition int32
	// Replicas are the brokers that are to keep it, the preferred leader first; none cancels the
	// move that is under way.
	Replicas []int32
}

// Reassign gives partitions other replicas and returns what moves. It does not wait for the moves
// to end; Reassignments tells. Errors: ErrUnknownTopicOrPartition, or *Error with the reason
// INVALID_REPLICA_ASSIGNMENT or NO_REASSIGNMENT_IN_PROGRESS.
func (c *Client) Reassign(
	ctx context.Context, moves ...Reassignment,
) ([]*sluicev1.PartitionReassignment, error) {
	request := &sluicev1.ReassignPartitionsRequest{}
	for _, m := range moves {
		request.Reassignments = append(request.Reassignments, &sluicev1.PartitionReassignment{
			Topic: m.Topic, Partition: m.Partition, ReplicaIds: m.Replicas,
		})
	}
	answer, err := call(ctx, "moving partitions", c.cluster.ReassignPartitions, request)
	return answer.GetReassignments(), err
}

// MoveAway moves every replica of a broker to others, so that it can leave the cluster, and
// returns what moves; with dryRun what would. Errors: *Error with the reason RESOURCE_NOT_FOUND,
// or INVALID_REPLICA_ASSIGNMENT where too few brokers would be left.
func (c *Client) MoveAway(
	ctx context.Context, broker int32, dryRun bool,
) ([]*sluicev1.PartitionReassignment, error) {
	answer, err := call(ctx, "moving partitions", c.cluster.ReassignPartitions,
		&sluicev1.ReassignPartitionsRequest{LeavingBrokerId: &broker, ValidateOnly: dryRun})
	return answer.GetReassignments(), err
}

// Reassignments returns the moves that are under way, by topic and partition.
func (c *Client) Reassignments(ctx context.Context) ([]*sluicev1.PartitionReassignment, error) {
	var all []*sluicev1.PartitionReassignment
	for token := ""; ; {
		page, err := call(ctx, "listing moves", c.cluster.ListReassignments,
			&sluicev1.ListReassignmentsRequest{PageToken: token})
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetReassignments()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// ElectPreferred makes the preferred replicas of partitions their leaders and returns how many
// leaders that changed. No partitions: all of the topic; no topic: all topics. Errors:
// ErrUnknownTopicOrPartition, or *Error with the reason ELECTION_NOT_NEEDED or
// PREFERRED_LEADER_NOT_AVAILABLE.
func (c *Client) ElectPreferred(
	ctx context.Context, topic string, partitions ...int32,
) (int, error) {
	answer, err := call(ctx, "electing leaders", c.cluster.ElectLeaders,
		&sluicev1.ElectLeadersRequest{
			ElectionType: sluicev1.ElectionType_ELECTION_TYPE_PREFERRED, Topic: topic,
			Partitions: partitions,
		})
	return int(answer.GetChangedCount()), err
}

// ElectUnclean makes a broker the leader of a partition although it may lack acknowledged records,
// which are then lost for good. Errors: ErrUnknownTopicOrPartition, or *Error with the reason
// ELECTION_NOT_NEEDED (a broker that has them all is alive) or ELIGIBLE_LEADERS_NOT_AVAILABLE.
func (c *Client) ElectUnclean(
	ctx context.Context, topic string, partition, broker int32,
) error {
	_, err := call(ctx, "electing a leader", c.cluster.ElectLeaders,
		&sluicev1.ElectLeadersRequest{
			ElectionType: sluicev1.ElectionType_ELECTION_TYPE_UNCLEAN, Topic: topic,
			Partitions: []int32{partition}, BrokerId: &broker,
		})
	return err
}

// Quorum returns the members of the etcd that keeps the cluster's metadata, by broker.
func (c *Client) Quorum(ctx context.Context) ([]*sluicev1.QuorumMember, error) {
	answer, err := call(ctx, "listing the metadata quorum", c.cluster.ListQuorumMembers,
		&sluicev1.ListQuorumMembersRequest{})
	return answer.GetMembers(), err
}

// JoinQuorum lets a new node into the metadata quorum and returns all members, which its
// --etcd-initial-cluster has to name. With replace a member of the same node or address, whose
// disk is lost, is removed before. Errors: *Error with the reason ILLEGAL_STATE.
func (c *Client) JoinQuorum(
	ctx context.Context, broker int32, peerAddress string, replace bool,
) ([]*sluicev1.QuorumMember, error) {
	answer, err := call(ctx, "joining the metadata quorum", c.cluster.AddQuorumMember,
		&sluicev1.AddQuorumMemberRequest{
			BrokerId: broker, PeerAddress: peerAddress, Replace: replace,
		})
	return answer.GetMembers(), err
}

// LeaveQuorum takes a node out of the metadata quorum; it stops then. Errors: *Error with the
// reason RESOURCE_NOT_FOUND or ILLEGAL_STATE.
func (c *Client) LeaveQuorum(ctx context.Context, broker int32) error {
	_, err := call(ctx, "leaving the metadata quorum", c.cluster.RemoveQuorumMember,
		&sluicev1.RemoveQuorumMemberRequest{BrokerId: broker})
	return err
}

// Backup takes a snapshot of the cluster's metadata: it returns what the snapshot is, and its
// bytes, which the caller reads to the end and closes. `sluice backup create` makes a file of both.
// Errors, also of reading: *Error with the reason ILLEGAL_STATE where an external etcd does not let
// its user take one.
func (c *Client) Backup(ctx context.Context) (*sluicev1.BackupInfo, io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.cluster.BackupMetadata(ctx, &sluicev1.BackupMetadataRequest{})
	if err != nil {
		cancel()
		return nil, nil, wireError(backingUp, err)
	}
	first, err := stream.Recv()
	if err != nil {
		cancel()
		return nil, nil, wireError(backingUp, err)
	}
	return first.GetInfo(), &backupReader{stream: stream, cancel: cancel}, nil
}

const backingUp = "taking a snapshot of the metadata"

// backupReader reads the bytes of a snapshot.
type backupReader struct {
	stream sluicev1.ClusterService_BackupMetadataClient
	cancel context.CancelFunc
	chunk  []byte
}

// Read reads on.
func (b *backupReader) Read(buffer []byte) (int, error) {
	for len(b.chunk) == 0 {
		message, err := b.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, wireError(backingUp, err)
		}
		b.chunk = message.GetChunk()
	}
	n := copy(buffer, b.chunk)
	b.chunk = b.chunk[n:]
	return n, nil
}

// Close ends the call.
func (b *backupReader) Close() error {
	b.cancel()
	return nil
}
