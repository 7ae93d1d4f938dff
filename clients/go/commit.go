package sluice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

const (
	commitsWaitingMax = 1000 // calls of CommitAsync that wait for a commit on its way
	commitTimeout     = 30 * time.Second
)

// CommitOffset says where a group goes on in a partition.
type CommitOffset struct {
	Topic     string
	Partition int32
	// Offset is the next to read: one more than that of the last record that was worked on.
	Offset int64
	// Metadata is a note of the program's own, at most 4 KiB.
	Metadata string
}

// Commit stores offsets of the group: those given, or with none given how far Poll has come in
// each partition. It returns when they are on disk. Commits happen in the order of their calls.
//
// Errors: ErrNoGroup; ErrFencedMemberEpoch, ErrUnknownMemberID and ErrFencedInstanceID where the
// consumer was taken for dead, and then nothing is stored; for single partitions, and the others
// are stored, ErrUnknownTopicOrPartition, and ErrStaleMemberEpoch where the group has taken it
// away; the context's. What may succeed later is tried again until ctx ends.
func (c *Consumer) Commit(ctx context.Context, offsets ...CommitOffset) error {
	done := make(chan error, 1)
	c.CommitAsync(func(_ []CommitOffset, err error) { done <- err }, offsets...)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CommitRecords is Commit for records that have been worked on, with all before them in their
// partitions.
func (c *Consumer) CommitRecords(ctx context.Context, records ...Record) error {
	latest := map[TopicPartition]int64{}
	for i := range records {
		p := TopicPartition{records[i].Topic, records[i].Partition}
		latest[p] = max(latest[p], records[i].Offset+1)
	}
	if len(latest) == 0 {
		return nil
	}
	var offsets []CommitOffset
	for p, offset := range latest {
		offsets = append(offsets, CommitOffset{
			Topic: p.Topic, Partition: p.Partition, Offset: offset,
		})
	}
	return c.Commit(ctx, offsets...)
}

// CommitAsync is Commit without waiting: done, if not nil, is called once with what was to be
// stored and the error, in a goroutine of the consumer, or in the caller's where there is nothing
// to store. Commits that wait for one on its way are stored together. Errors besides those of
// Commit: ErrCommitsPending where too many wait; ErrRequestTimedOut after half a minute.
func (c *Consumer) CommitAsync(done func([]CommitOffset, error), offsets ...CommitOffset) {
	if done == nil {
		done = func([]CommitOffset, error) {}
	}
	if c.commit == nil {
		done(offsets, ErrNoGroup)
		return
	}
	c.mu.Lock()
	if len(offsets) == 0 {
		offsets = c.consumedLocked(c.order)
	}
	var err error
	if len(offsets) > 0 {
		err = c.commit.addLocked(offsets, done)
	}
	c.mu.Unlock()
	if err != nil || len(offsets) == 0 {
		done(offsets, err)
	}
}

// consumedLocked returns how far Poll has come in partitions where that is not stored.
func (c *Consumer) consumedLocked(states []*partitionState) []CommitOffset {
	var offsets []CommitOffset
	for _, s := range states {
		if s.next != s.committed && s.next >= 0 {
			offsets = append(offsets, CommitOffset{
				Topic: s.Topic, Partition: s.Partition, Offset: s.next,
			})
		}
	}
	return offsets
}

// commitJob is a call of Commit.
type commitJob struct {
	offsets []grantedOffset
	done    func(error)
}

// grantedOffset is an offset to store, and which time that the member was given its partition it
// belongs to. If the partition is taken away before it is stored, it must not be, even if the
// member has been given the partition again: somebody else may have gone on from an earlier offset.
type grantedOffset struct {
	CommitOffset
	grant int
}

// committer stores the offsets of a consumer's group, one request at a time, so that a later
// commit is never overtaken by an earlier one. What comes meanwhile goes with the next.
type committer struct {
	c    *Consumer
	wake chan struct{}

	// Guarded by the consumer's mu.
	jobs    []commitJob
	stopped bool
}

func newCommitter(c *Consumer) *committer {
	return &committer{c: c, wake: make(chan struct{}, 1)}
}

// addLocked lets offsets wait for their turn.
func (m *committer) addLocked(
	offsets []CommitOffset, done func([]CommitOffset, error),
) error {
	switch {
	case m.stopped:
		return ErrClosed
	case len(m.jobs) >= commitsWaitingMax:
		return ErrCommitsPending
	}
	job := commitJob{done: func(err error) { done(offsets, err) }}
	for _, o := range offsets {
		granted := grantedOffset{CommitOffset: o}
		if member := m.c.member; member != nil {
			granted.grant = member.state.grants[TopicPartition{o.Topic, o.Partition}]
		}
		job.offsets = append(job.offsets, granted)
	}
	m.jobs = append(m.jobs, job)
	notify(m.wake)
	return nil
}

// flush returns once all commits before it have been answered.
func (m *committer) flush(ctx context.Context) error {
	done := make(chan struct{})
	m.c.mu.Lock()
	stopped := m.stopped
	m.jobs = append(m.jobs, commitJob{done: func(error) { close(done) }})
	notify(m.wake)
	m.c.mu.Unlock()
	if stopped {
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns the jobs that wait.
func (m *committer) take(stop bool) []commitJob {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	jobs := m.jobs
	m.jobs = nil
	m.stopped = m.stopped || stop
	return jobs
}

// run stores what comes until ctx is done.
func (m *committer) run(ctx context.Context) error {
	defer func() {
		for _, job := range m.take(true) {
			job.done(ErrClosed)
		}
	}()
	for {
		select {
		case <-m.wake:
			m.store(ctx, m.take(false))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// store stores the offsets of jobs, the later ones over the earlier, and tells each.
func (m *committer) store(ctx context.Context, jobs []commitJob) {
	if len(jobs) == 0 {
		return
	}
	merged := map[TopicPartition]grantedOffset{}
	for _, job := range jobs {
		for _, o := range job.offsets {
			merged[TopicPartition{o.Topic, o.Partition}] = o
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	refused, err := m.send(ctx, merged)
	for _, job := range jobs {
		errs := []error{err}
		for _, o := range job.offsets {
			errs = append(errs, refused[TopicPartition{o.Topic, o.Partition}])
		}
		job.done(errors.Join(errs...))
	}
}

// send makes the request, again and again as long as it may succeed. It returns why single offsets
// were refused.
func (m *committer) send(
	ctx context.Context, offsets map[TopicPartition]grantedOffset,
) (map[TopicPartition]error, error) {
	retries := newBackoff(reconnectFirst, reconnectMost)
	refused := map[TopicPartition]error{}
	for {
		request := m.request(offsets, refused)
		if len(request.Offsets) == 0 {
			return refused, nil
		}
		err := m.attempt(ctx, request, refused)
		if err == nil || !retriable(err) && !errors.Is(err, ErrStaleMemberEpoch) {
			return refused, err
		}
		select {
		case <-time.After(retries.NextBackOff()):
		case <-ctx.Done():
			return refused, fmt.Errorf("%w: %w", ErrRequestTimedOut, err)
		}
	}
}

// request returns the request for the offsets whose partitions are still the member's, as the
// member is known now; the others are refused.
func (m *committer) request(
	offsets map[TopicPartition]grantedOffset, refused map[TopicPartition]error,
) *sluicev1.CommitOffsetsRequest {
	request := &sluicev1.CommitOffsetsRequest{Group: m.c.config.group}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	member := m.c.member
	if member != nil {
		epoch := member.state.epoch
		request.MemberId, request.MemberEpoch = member.state.id, &epoch
		request.InstanceId = m.c.config.instanceID
	}
	for p, o := range offsets {
		if member == nil && o.grant > 0 ||
			member != nil && (!member.state.owned[p] || member.state.grants[p] != o.grant) {
			refused[p] = fmt.Errorf("committing %v, which was taken away: %w", p,
				ErrStaleMemberEpoch)
			continue
		}
		request.Offsets = append(request.Offsets, &sluicev1.CommittedOffset{
			Topic: p.Topic, Partition: p.Partition, Offset: o.Offset, Metadata: o.Metadata,
		})
	}
	return request
}

// attempt makes the request once. Its error is also that of an offset which may be
// stored if it is sent again; to store the others again changes nothing.
func (m *committer) attempt(
	ctx context.Context, request *sluicev1.CommitOffsetsRequest, refused map[TopicPartition]error,
) error {
	began := time.Now()
	answer, err := call(ctx, "committing offsets of group "+m.c.config.group,
		m.c.client.groups.CommitOffsets, request)
	m.c.client.requested("CommitOffsets", m.c.client.home, began, err)
	if err != nil {
		return err
	}
	now := time.Now()
	m.c.metrics.add("commit-latency", milliseconds(now.Sub(began)), now)
	m.c.metrics.add("commit", 1, now)
	return m.stored(request.GetOffsets(), answer.GetResults(), refused)
}

// stored takes note of what was stored, and why the rest was not. It returns an error
// that may pass.
func (m *committer) stored(
	offsets []*sluicev1.CommittedOffset, results []*sluicev1.CommitResult,
	refused map[TopicPartition]error,
) (again error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for i, r := range results {
		p := TopicPartition{r.GetTopic(), r.GetPartition()}
		if r.GetError() != nil {
			err := wireError("committing "+p.String(),
				fault.From(status.ErrorProto(r.GetError())))
			if retriable(err) {
				again = err
			} else {
				refused[p] = err
			}
		} else if s := m.c.partitions[p]; s != nil && i < len(offsets) {
			s.committed = offsets[i].GetOffset()
		}
	}
	return again
}
