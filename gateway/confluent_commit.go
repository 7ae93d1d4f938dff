package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// resolveConcurrencyMax is how many partitions are looked up at once.
	resolveConcurrencyMax = 16
	// commitRetryCountMax is how often a commit is sent again whose member has
	// a new epoch.
	commitRetryCountMax = 3
	commitRetryWait     = 5 * time.Second
	commitCountMax      = 10_000
)

// resolve finds out where reading begins in the partitions where nobody knows
// yet: after what the group has committed, else where the instance's reset says.
func (i *instance) resolve(ctx context.Context) error {
	i.mu.Lock()
	places := i.core.Unresolved()
	i.mu.Unlock()
	if len(places) == 0 {
		return nil
	}
	offsets, err := i.g.startsOf(ctx, i.key.group, places, i.config.Reset)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for k, place := range places {
		if offsets[k] >= 0 {
			i.core.Resolve(place, offsets[k])
		}
	}
	return nil
}

// startsOf returns the offset at which reading begins in each place, or -1
// where there is no such partition (any more).
func (g *Gateway) startsOf(
	ctx context.Context, group string, places []consumer.Place, reset consumer.Reset,
) ([]int64, error) {
	committed, err := g.committedOf(ctx, group, places)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(places))
	looking, lookCtx := errgroup.WithContext(ctx)
	looking.SetLimit(resolveConcurrencyMax)
	for k, place := range places {
		if found, ok := committed[place.Partition]; ok && place.Start.Kind == consumer.Committed {
			offsets[k] = found.GetOffset()
			continue
		}
		at, err := startAt(place, reset)
		if err != nil {
			return nil, err
		}
		looking.Go(func() error {
			answer, err := g.streams.ListOffsets(lookCtx, &sluicev1.ListOffsetsRequest{
				Topic: place.Partition.Topic, Partition: place.Partition.Number, At: at,
			})
			if isAbsent(err) {
				offsets[k] = -1
				return nil
			}
			offsets[k] = answer.GetOffset()
			return err
		})
	}
	return offsets, looking.Wait()
}

// startAt returns what ListOffsets calls the start of a place.
func startAt(place consumer.Place, reset consumer.Reset) (string, error) {
	switch place.Start.Kind {
	case consumer.Earliest:
		return "earliest", nil
	case consumer.Latest:
		return "latest", nil
	case consumer.AtTime:
		return place.Start.Time.UTC().Format(time.RFC3339Nano), nil
	case consumer.Committed, consumer.AtOffset:
	}
	switch reset {
	case consumer.ResetEarliest:
		return "earliest", nil
	case consumer.ResetNone:
		return "", illegalState(consumer.StateError(
			"Undefined offset with no reset policy for partition " + place.Partition.String()))
	case consumer.ResetLatest:
	}
	return "latest", nil
}

// committedOf returns what a group has committed in those places that begin
// there.
func (g *Gateway) committedOf(
	ctx context.Context, group string, places []consumer.Place,
) (map[consumer.Partition]*sluicev1.CommittedOffset, error) {
	found := map[consumer.Partition]*sluicev1.CommittedOffset{}
	request := &sluicev1.FetchOffsetsRequest{Group: group}
	seen := map[string]bool{}
	for _, place := range places {
		if name := place.Partition.Topic; place.Start.Kind == consumer.Committed && !seen[name] {
			seen[name] = true
			request.Topics = append(request.Topics, name)
		}
	}
	if len(request.GetTopics()) == 0 {
		return found, nil
	}
	answer, err := g.groups.FetchOffsets(ctx, request)
	if err != nil {
		return nil, err
	}
	for _, offset := range answer.GetOffsets() {
		found[consumer.Partition{
			Topic: offset.GetTopic(), Number: offset.GetPartition(),
		}] = offset
	}
	return found, nil
}

// commitsOf makes the commit of positions.
func commitsOf(places []consumer.Place) (offsets []*sluicev1.CommittedOffset) {
	for _, place := range places {
		offsets = append(offsets, &sluicev1.CommittedOffset{
			Topic: place.Partition.Topic, Partition: place.Partition.Number, Offset: place.Next,
		})
	}
	return offsets
}

// commitReturned commits the positions after all records that were returned.
func (i *instance) commitReturned(ctx context.Context, member *membership) error {
	i.mu.Lock()
	places := i.core.Uncommitted()
	i.mu.Unlock()
	if len(places) == 0 {
		return nil
	}
	if err := i.commit(ctx, member, commitsOf(places)); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, place := range places {
		i.core.Commit(place)
	}
	return nil
}

// commit stores offsets of the group. If its member has got a new epoch
// meanwhile, it waits for the heartbeat that tells, and sends it again.
func (i *instance) commit(
	ctx context.Context, member *membership, offsets []*sluicev1.CommittedOffset,
) error {
	for attempt := 0; ; attempt++ {
		request := &sluicev1.CommitOffsetsRequest{Group: i.key.group, Offsets: offsets}
		var renewed <-chan struct{}
		if member != nil {
			id, epoch, changed := member.current()
			request.MemberId, request.MemberEpoch, renewed = id, &epoch, changed
		}
		answer, err := i.g.groups.CommitOffsets(ctx, request)
		switch {
		case err == nil:
			return commitProblem(answer)
		case member == nil || attempt == commitRetryCountMax,
			!errors.Is(fault.From(err), fault.StaleMemberEpoch):
			return groupProblem(err)
		}
		waiting, cancel := context.WithTimeout(ctx, commitRetryWait)
		select {
		case <-renewed:
		case <-waiting.Done():
		}
		cancel()
		if waiting.Err() != nil && ctx.Err() != nil {
			return groupProblem(err)
		}
	}
}

// commitProblem returns the error of a commit of which a part was not stored.
func commitProblem(answer *sluicev1.CommitOffsetsResponse) error {
	var first error
	names, others := "", 0
	for _, result := range answer.GetResults() {
		if result.GetError().GetCode() == 0 {
			continue
		}
		if first == nil {
			first = status.FromProto(result.GetError()).Err()
		}
		if others++; others <= 10 {
			names += fmt.Sprintf(" %s-%d", result.GetTopic(), result.GetPartition())
		}
	}
	if first == nil {
		return nil
	}
	e := fault.From(first)
	code, message := e.ErrorCode, e.Error()
	if fixed, ok := errors.AsType[*shaped](confluentError(first)); ok {
		code, message = fixed.code, fixed.message
	}
	return &shaped{
		e.HTTP, code, fmt.Sprintf("%s %d of %d offsets were not committed, those of%s.",
			message, others, len(answer.GetResults()), names), first,
	}
}

// groupProblem is the error of a group's call that the instance's part in the
// group excludes.
func groupProblem(err error) error {
	e := fault.From(err)
	if isGone(err) || errors.Is(e, fault.StaleMemberEpoch) {
		return &shaped{
			409, 40903, "Illegal state: the group has moved on without this consumer instance, " +
				"or has members beside it: " + e.Error(), err,
		}
	}
	return err
}
