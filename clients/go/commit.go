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
// Errors: ErrNoGroup; ErrFencedMemberEpoch, ErrUnknownMemberID, ErrStaleMemberEpoch and
// ErrFencedInstanceID where the partitions belong to somebody else by now, and then nothing is
// stored; for single partitions ErrUnknownTopicOrPartition; the context's. What may succeed later
// is tried again until ctx ends.
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
	if len(offsets) == 0 {
		offsets = c.consumed(nil)
	}
	if len(offsets) == 0 {
		done(nil, nil)
		return
	}
	if err := c.commit.add(commitJob{offsets: offsets, done: done}); err != nil {
		done(offsets, err)
	}
}

// consumed returns how far Poll has come where that is not stored: in the partitions given, or in
// all.
func (c *Consumer) consumed(only []TopicPartition) []CommitOffset {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := c.order
	if only != nil {
		states = nil
		for _, p := range only {
			if s := c.partitions[p]; s != nil {
				states = append(states, s)
			}
		}
	}
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
	offsets []CommitOffset
	done    func([]CommitOffset, error)
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

// add lets a job wait for its turn.
func (m *committer) add(job commitJob) error {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	switch {
	case m.stopped:
		return ErrClosed
	case len(m.jobs) >= commitsWaitingMax:
		return ErrCommitsPending
	}
	m.jobs = append(m.jobs, job)
	notify(m.wake)
	return nil
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
			job.done(job.offsets, ErrClosed)
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
	merged := map[TopicPartition]CommitOffset{}
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
		job.done(job.offsets, errors.Join(errs...))
	}
}

// send makes the request, again and again as long as it may succeed.
func (m *committer) send(
	ctx context.Context, offsets map[TopicPartition]CommitOffset,
) (map[TopicPartition]error, error) {
	retries := newBackoff(reconnectFirst, reconnectMost)
	for {
		refused, err := m.attempt(ctx, offsets)
		stale := errors.Is(err, ErrStaleMemberEpoch) && m.owns(offsets)
		if err == nil || !retriable(err) && !stale {
			return refused, err
		}
		select {
		case <-time.After(retries.NextBackOff()):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrRequestTimedOut, err)
		}
	}
}

// owns reports whether the group still gives the consumer all these partitions.
func (m *committer) owns(offsets map[TopicPartition]CommitOffset) bool {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for p := range offsets {
		if m.c.partitions[p] == nil {
			return false
		}
	}
	return true
}

// attempt makes the request once. It returns why single offsets were refused.
func (m *committer) attempt(
	ctx context.Context, offsets map[TopicPartition]CommitOffset,
) (map[TopicPartition]error, error) {
	request := &sluicev1.CommitOffsetsRequest{Group: m.c.config.group}
	m.c.mu.Lock()
	if member := m.c.member; member != nil {
		epoch := member.state.epoch
		request.MemberId, request.MemberEpoch = member.state.id, &epoch
		request.InstanceId = m.c.config.instanceID
	}
	m.c.mu.Unlock()
	for p, o := range offsets {
		request.Offsets = append(request.Offsets, &sluicev1.CommittedOffset{
			Topic: p.Topic, Partition: p.Partition, Offset: o.Offset, Metadata: o.Metadata,
		})
	}
	began := time.Now()
	answer, err := call(ctx, "committing offsets of group "+m.c.config.group,
		m.c.client.groups.CommitOffsets, request)
	m.c.client.requested("CommitOffsets", m.c.client.home, began, err)
	if err != nil {
		return nil, err
	}
	m.c.metrics.add("commit-latency", milliseconds(time.Since(began)), time.Now())
	m.c.metrics.add("commit", 1, time.Now())
	return m.stored(offsets, answer.GetResults()), nil
}

// stored takes note of what was stored, and returns why the rest was not.
func (m *committer) stored(
	offsets map[TopicPartition]CommitOffset, results []*sluicev1.CommitResult,
) map[TopicPartition]error {
	refused := map[TopicPartition]error{}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, r := range results {
		p := TopicPartition{r.GetTopic(), r.GetPartition()}
		if r.GetError() != nil {
			refused[p] = wireError("committing "+p.String(),
				fault.From(status.ErrorProto(r.GetError())))
		} else if s := m.c.partitions[p]; s != nil {
			s.committed = offsets[p].Offset
		}
	}
	return refused
}
