package server

import (
	"errors"
	"slices"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
)

// readCopy lets a reader read what this node has although it does not lead: it is
// in sync and in the caller's rack (KIP-392), or it leads as far as it knows and
// is cut off from the cluster. What is below its high watermark is committed
// either way, and never changes.
func (s *Server) readCopy(r *reader, rack string) bool {
	log := r.topic.logs[r.partition]
	if log == nil {
		return false
	}
	if s.cluster.Fenced() {
		_, leads := log.Leads()
		r.log, r.fenced = log, true
		return leads
	}
	own := s.cluster.NodeID()
	b, ok := s.cluster.Snapshot().Broker(own)
	if rack == "" || !ok || b.Rack != rack ||
		!slices.Contains(r.topic.Partitions[r.partition].ISR, own) {
		return false
	}
	r.log, r.copied = log, true
	return true
}

// behind tells an offset that this replica does not have yet from one that is out
// of range, which only who leads can say.
func (r *reader) behind(err error) error {
	switch {
	case !errors.Is(err, fault.OffsetOutOfRange) || r.next <= r.log.HighWatermark():
		return err
	case r.copied:
		return fault.OffsetNotAvailable.With("topic", r.topic.Name, "partition", r.partition)
	case !r.leads():
		return notHere(r.topic.Name, r.partition)
	}
	return err
}

// nearest routes to an in-sync replica in a rack, this node first, or to the
// leader where there is none.
func nearest(
	own route, topic string, partition int32, rack string, at *cluster.Snapshot,
) route {
	to := leaderOf(own, topic, partition, at)
	t, ok := at.Topic(topic)
	if rack == "" || !ok || partition < 0 || int(partition) >= len(t.Partitions) {
		return to
	}
	near := func(id int32) bool {
		b, alive := at.Broker(id)
		return alive && b.Admitted && b.State == cluster.BrokerRunning && b.Rack == rack
	}
	isr := t.Partitions[partition].ISR
	switch {
	case to.node != cluster.NoLeader && near(to.node):
		return to
	case slices.Contains(isr, own.node) && near(own.node):
		to.node = own.node
	default:
		if i := slices.IndexFunc(isr, near); i >= 0 {
			to.node, to.as = isr[i], "a replica in the caller's rack"
		}
	}
	return to
}
