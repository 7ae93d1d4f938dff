package sluice

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/internal/fault"
)

// Error is an error that the cluster answered, or that gRPC raised on the way: Reason is Kafka's
// name of it, Retriable says whether the same call may succeed later, Value returns a value of the
// case such as "topic" or "end_offset". Get it out of an error with errors.As.
type Error = fault.Error

// What this package itself refuses.
var (
	// ErrClosed is the error of everything that is used after, or pending at, its Close.
	ErrClosed = errors.New("sluice: closed")
	// ErrBufferFull is the error of a record that found no room in the buffer memory within the
	// maximum blocking time: the cluster is slower than the program, or away.
	ErrBufferFull = errors.New("sluice: the producer's buffer memory is full")
	// ErrDeliveryTimeout is the error of a record that was not acknowledged within the delivery
	// timeout. It may have been written. The error that wraps it holds the last failure.
	ErrDeliveryTimeout = errors.New("sluice: the delivery timeout passed")
	// ErrRecordTooLarge is the error of a record that is larger than the maximum request size.
	ErrRecordTooLarge = errors.New("sluice: the record is larger than the maximum request size")
	// ErrInvalidPartition is the error of a record whose partition, chosen by the program, is not
	// one of the topic.
	ErrInvalidPartition = errors.New("sluice: no such partition")
	// ErrNotAssigned is the error of reading with no partition assigned, or of a partition that
	// is not.
	ErrNotAssigned = errors.New("sluice: no partition is assigned")
	// ErrNoGroup is the error of what needs a group: see WithGroup.
	ErrNoGroup = errors.New("sluice: the consumer has no group")
	// ErrSubscribed is the error of Assign after Subscribe: partitions come from the group.
	ErrSubscribed = errors.New("sluice: the consumer is subscribed")
	// ErrAssigned is the error of Subscribe while partitions are assigned by Assign.
	ErrAssigned = errors.New("sluice: partitions are assigned by hand")
	// ErrCommitsPending is the error of a CommitAsync while 1,000 wait for the coordinator.
	ErrCommitsPending = errors.New("sluice: too many commits are pending")
)

// What the cluster answers, to compare with errors.Is. docs/errors.md lists every reason.
var (
	// ErrUnknownTopicOrPartition: there is no such topic, or it has no such partition.
	ErrUnknownTopicOrPartition error = fault.UnknownTopicOrPartition
	// ErrTopicAlreadyExists: the name of a new topic is taken.
	ErrTopicAlreadyExists error = fault.TopicAlreadyExists
	// ErrInvalidTopic: the name of a topic breaks a rule.
	ErrInvalidTopic error = fault.InvalidTopic
	// ErrInvalidConfig: an unknown setting, or a value out of its range.
	ErrInvalidConfig error = fault.InvalidConfig
	// ErrOffsetOutOfRange: the log holds no such offset; Value("log_start_offset") and
	// Value("high_watermark") say which it does.
	ErrOffsetOutOfRange error = fault.OffsetOutOfRange
	// ErrMessageTooLarge: a batch is larger than the topic's max.message.bytes.
	ErrMessageTooLarge error = fault.MessageTooLarge
	// ErrBrokerNotAvailable: the node cannot be reached or does not serve.
	ErrBrokerNotAvailable error = fault.BrokerNotAvailable
	// ErrRequestTimedOut: no answer came in time; a write may have happened.
	ErrRequestTimedOut error = fault.RequestTimedOut
	// ErrGroupIDNotFound: there is no such group.
	ErrGroupIDNotFound error = fault.GroupIDNotFound
	// ErrNonEmptyGroup: the group has members.
	ErrNonEmptyGroup error = fault.GroupNotEmpty
	// ErrGroupSubscribedToTopic: a member of the group is subscribed to the topic.
	ErrGroupSubscribedToTopic error = fault.GroupSubscribedToTopic
	// ErrNoOffsetForPartition: the group has stored no offset of a partition, and there is no
	// offset reset.
	ErrNoOffsetForPartition error = fault.NoOffsetForPartition
	// ErrUnknownMemberID: the member was taken for dead; its partitions are somebody else's.
	ErrUnknownMemberID error = fault.UnknownMemberID
	// ErrFencedMemberEpoch: as ErrUnknownMemberID.
	ErrFencedMemberEpoch error = fault.FencedMemberEpoch
	// ErrStaleMemberEpoch: the group has changed since, and the partitions are not the member's.
	ErrStaleMemberEpoch error = fault.StaleMemberEpoch
	// ErrFencedInstanceID: another consumer runs with the same instance id.
	ErrFencedInstanceID error = fault.FencedInstanceID
	// ErrUnreleasedInstanceID: another consumer with the same instance id does not go away.
	ErrUnreleasedInstanceID error = fault.UnreleasedInstanceID
	// ErrInvalidRegularExpression: the pattern of a subscription is no RE2, or too long.
	ErrInvalidRegularExpression error = fault.InvalidRegularExpression
	// ErrGroupMaxSizeReached: the group has as many members as group.max.size allows.
	ErrGroupMaxSizeReached error = fault.GroupMaxSizeReached
)

// wireError is err as this package reports it: a *Error that says what was being done, unless the
// caller's own context ended it.
func wireError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, fault.From(err))
}

// streamBroke reports whether err ended a stream for a reason that opening it again may cure: the
// connection or the node went away, rather than the request being refused.
func streamBroke(err error) bool {
	code := status.Code(err)
	if errors.Is(err, io.EOF) || code == codes.Canceled {
		return true
	}
	e := fault.From(err)
	if answeredByCluster(err) {
		return e.Retriable
	}
	switch code {
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.Aborted, codes.DeadlineExceeded:
		return true
	}
	return e.Retriable
}

// answeredByCluster reports whether err came from a node, with a reason of the catalogue, rather
// than from gRPC.
func answeredByCluster(err error) bool {
	st, _ := status.FromError(err)
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.GetDomain() == fault.Domain {
			return true
		}
	}
	return false
}

// retriable reports whether the call that failed with err may succeed later.
func retriable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Retriable
}
