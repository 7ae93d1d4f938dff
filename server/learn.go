package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
)

// What a node has to know before it says that something is not there.

// learn makes sure of what a request names and this node does not know or not
// serve yet: another node may have created it a moment ago, and said so to the
// caller. The error says that this could not be made sure of, which is no reason to
// say that something is not there.
func (s *Server) learn(ctx context.Context, names ...place) error {
	served := s.catalog.Load()
	if !slices.ContainsFunc(names, func(name place) bool { return !served.has(name) }) {
		return nil
	}
	at := s.cluster.Snapshot()
	asked := s.alone() // nobody else changes anything
	var revision int64
	var unsure error
	for _, name := range names {
		if served.has(name) || cluster.CheckTopicName(name.topic) != nil {
			continue
		}
		if !asked && !knows(at, name) {
			asked = true
			newer, err := s.cluster.Sync(ctx)
			if unsure = err; err == nil {
				at = newer
			}
		}
		if t, ok := at.Topic(name.topic); ok && knows(at, name) {
			revision = max(revision, t.Revision)
		}
	}
	_ = s.reached(ctx, revision) // the handler says what is wrong
	return unsure
}

// learnOffsets makes sure of the topics of offsets that a request brings. The error is
// that of learn.
func (s *Server) learnOffsets(ctx context.Context, offsets []group.Offset) error {
	names := make([]place, 0, len(offsets))
	for _, o := range offsets {
		names = append(names, place{o.Topic, o.Partition})
	}
	return s.learn(ctx, names...)
}

// orUnsure returns err, or unsure, what learn has said, where err says that something
// is not there of which nobody made sure.
func orUnsure(err, unsure error) error {
	if unsure != nil && (errors.Is(err, fault.UnknownTopicOrPartition) ||
		errors.Is(err, fault.UnknownPartition)) {
		return unsure
	}
	return err
}

// place is a partition that a request names; 0 where it names a topic only.
type place struct {
	topic     string
	partition int32
}

// namedBy returns what a request of one topic names.
func namedBy(request any) (place, bool) {
	switch r := request.(type) {
	case partitionRequest:
		return place{r.GetTopic(), r.GetPartition()}, true
	case interface{ GetTopic() string }:
		return place{topic: r.GetTopic()}, true
	}
	return place{}, false
}

func (c *catalog) has(at place) bool {
	t, ok := c.topics[at.topic]
	return ok && int(at.partition) < len(t.Partitions)
}

func knows(known *cluster.Snapshot, at place) bool {
	t, ok := known.Topic(at.topic)
	return ok && int(at.partition) < len(t.Partitions)
}

// orBehind returns err, the outcome of a call that another node has handed on, or that
// this one has not heard of what the other has: then it cannot say that something is
// not there.
func (s *Server) orBehind(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	if s.catalog.Load().revision >= revisionOf(md) {
		return err
	}
	return orUnsure(err, fault.BrokerNotAvailable.Because(
		"node %d has not heard yet of what the node knows that asked it", s.cluster.NodeID()))
}

// reachedAsked waits for the revision that a forwarded call asks for.
func (s *Server) reachedAsked(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	return s.reached(ctx, revisionOf(md))
}

// reached waits until the node serves what the metadata said at a revision, or
// for routeTime: then it serves what it has.
func (s *Server) reached(ctx context.Context, revision int64) error {
	if s.catalog.Load().revision >= revision {
		return nil
	}
	timer := time.NewTimer(routeTime)
	defer timer.Stop()
	for {
		c := s.catalog.Load()
		if c.revision >= revision {
			return nil
		}
		select {
		case <-c.next:
		case <-timer.C:
			return nil
		case <-s.draining:
			return errPeersClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
