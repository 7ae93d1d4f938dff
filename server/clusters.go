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
	for _, b := range snapshot.Brokers() {
		message.Brokers = append(message.Brokers, brokerMessage(b))
	}
	for _, t := range snapshot.Topics() {
		message.TopicCount++
		message.PartitionCount += int32(len(t.Partitions))
	}
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
	for _, b := range c.s.cluster.Brokers() {
		if int64(b.ID) <= after {
			continue
		}
		if n := len(response.Brokers); n == list.size {
			last := response.Brokers[n-1].GetBrokerId()
			response.NextPageToken = list.token(strconv.Itoa(int(last)))
			break
		}
		response.Brokers = append(response.Brokers, brokerMessage(b))
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
	return &sluicev1.GetBrokerResponse{Broker: brokerMessage(b)}, nil
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

func brokerMessage(b cluster.Broker) *sluicev1.Broker {
	return &sluicev1.Broker{
		BrokerId: b.ID, GrpcAddress: b.GRPCAddress, HttpAddress: b.HTTPAddress, Rack: b.Rack,
	}
}
