package server

import (
	"context"
	"strconv"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
)

// clusterService serves ClusterService.
type clusterService struct {
	sluicev1.UnimplementedClusterServiceServer
	s *Server
}

// GetCluster returns the cluster.
func (c *clusterService) GetCluster(
	context.Context, *sluicev1.GetClusterRequest,
) (*sluicev1.GetClusterResponse, error) {
	snapshot := c.s.cluster.Snapshot()
	message := &sluicev1.Cluster{ClusterId: c.s.cluster.ID(), Version: c.s.cfg.Version}
	if id := snapshot.Controller(); id != cluster.NoLeader {
		message.ControllerId = &id
	}
	loads := loadsOf(snapshot)
	for _, b := range snapshot.Brokers() {
		message.Brokers = append(message.Brokers, brokerMessage(b, loads))
	}
	h := healthOf(snapshot)
	message.TopicCount, message.PartitionCount = h.topics, h.partitions
	message.UnderReplicatedPartitionCount = h.underReplicated
	message.LeaderlessPartitionCount = h.leaderless
	message.ReassigningPartitionCount = h.reassigning
	message.RestoringPartitionCount = h.restoring
	message.AwaitedBrokerIds = snapshot.Awaited()
	return &sluicev1.GetClusterResponse{Cluster: message}, nil
}

// ListBrokers lists the brokers by id.
func (c *clusterService) ListBrokers(
	_ context.Context, request *sluicev1.ListBrokersRequest,
) (*sluicev1.ListBrokersResponse, error) {
	list, err := newListing("brokers", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	after := int64(-1)
	if list.after != "" {
		if after, err = strconv.ParseInt(list.after, 10, 32); err != nil {
			return nil, fault.InvalidRequest.With().At("page_token",
				"is not one that this list returned")
		}
	}
	response := &sluicev1.ListBrokersResponse{}
	snapshot := c.s.cluster.Snapshot()
	loads := loadsOf(snapshot)
	for _, b := range snapshot.Brokers() {
		if int64(b.ID) <= after {
			continue
		}
		if n := len(response.Brokers); n == list.size {
			last := response.Brokers[n-1].GetBrokerId()
			response.NextPageToken = list.token(strconv.Itoa(int(last)))
			break
		}
		response.Brokers = append(response.Brokers, brokerMessage(b, loads))
	}
	return response, nil
}

// GetBroker returns a broker.
func (c *clusterService) GetBroker(
	_ context.Context, request *sluicev1.GetBrokerRequest,
) (*sluicev1.GetBrokerResponse, error) {
	b, err := c.s.broker(request.GetBrokerId())
	if err != nil {
		return nil, err
	}
	loads := loadsOf(c.s.cluster.Snapshot())
	return &sluicev1.GetBrokerResponse{Broker: brokerMessage(b, loads)}, nil
}

// broker returns a broker that is alive.
func (s *Server) broker(id int32) (cluster.Broker, error) {
	for _, b := range s.cluster.Brokers() {
		if b.ID == id {
			return b, nil
		}
	}
	return cluster.Broker{}, fault.ResourceNotFound.With("broker", id).Because(
		"there is no broker %d", id)
}

// clusterHealth is how the partitions of the cluster are.
type clusterHealth struct {
	topics, partitions, underReplicated, leaderless, reassigning, restoring int32
}

func healthOf(s *cluster.Snapshot) clusterHealth {
	var h clusterHealth
	for _, t := range s.Topics() {
		h.topics++
		h.partitions += int32(len(t.Partitions))
		for _, p := range t.Partitions {
			if len(p.ISR) < len(p.Replicas) {
				h.underReplicated++
			}
			if p.Leader == cluster.NoLeader {
				h.leaderless++
			}
			if len(p.Adding)+len(p.Removing) > 0 {
				h.reassigning++
			}
			if p.Restored {
				h.restoring++
			}
		}
	}
	return h
}

// clusterGauges adds the metrics of the cluster as this node knows it.
func (s *Server) clusterGauges() {
	at := s.cluster.Snapshot
	flag := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	s.metrics.gauge("sluice_cluster_brokers", "Brokers that are alive.",
		func() int64 { return int64(len(at().Brokers())) })
	s.metrics.gauge("sluice_cluster_controller", "1 on the broker that is the controller.",
		func() int64 { return flag(at().Controller() == s.cluster.NodeID()) })
	s.metrics.gauge("sluice_cluster_under_replicated_partitions",
		"Partitions of which not all replicas are in sync.",
		func() int64 { return int64(healthOf(at()).underReplicated) })
	s.metrics.gauge("sluice_cluster_leaderless_partitions", "Partitions without a leader.",
		func() int64 { return int64(healthOf(at()).leaderless) })
	s.metrics.gauge("sluice_cluster_reassigning_partitions",
		"Partitions that get other replicas.",
		func() int64 { return int64(healthOf(at()).reassigning) })
	s.metrics.gauge("sluice_cluster_metadata_revision",
		"Revision of the metadata that the broker knows; the same everywhere but for moments.",
		func() int64 { return at().LastChange() })
	s.metrics.gauge("sluice_cluster_fenced",
		"1 while the broker cannot be sure that the others take it for alive.",
		func() int64 { return flag(s.cluster.Fenced()) })
}

// load is how many partitions a broker leads and keeps.
type load struct{ leaders, replicas int32 }

func loadsOf(s *cluster.Snapshot) map[int32]load {
	loads := map[int32]load{}
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			for _, id := range p.Replicas {
				l := loads[id]
				l.replicas++
				if id == p.Leader {
					l.leaders++
				}
				loads[id] = l
			}
		}
	}
	return loads
}

func brokerMessage(b cluster.Broker, loads map[int32]load) *sluicev1.Broker {
	return &sluicev1.Broker{
		BrokerId: b.ID, GrpcAddress: b.GRPCAddress, HttpAddress: b.HTTPAddress, Rack: b.Rack,
		State: stateOf(b), BrokerEpoch: b.Epoch,
		LeaderCount: loads[b.ID].leaders, ReplicaCount: loads[b.ID].replicas,
	}
}

func stateOf(b cluster.Broker) sluicev1.BrokerState {
	switch {
	case b.State == cluster.BrokerCorrupt:
		return sluicev1.BrokerState_BROKER_STATE_CORRUPT
	case b.State == cluster.BrokerDraining:
		return sluicev1.BrokerState_BROKER_STATE_DRAINING
	case !b.Admitted:
		return sluicev1.BrokerState_BROKER_STATE_STARTING
	}
	return sluicev1.BrokerState_BROKER_STATE_RUNNING
}
