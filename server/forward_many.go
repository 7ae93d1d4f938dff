package server

import (
	"context"
	"slices"
	"strings"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
)

// ListGroups lists groups by id. Each node knows those that it coordinates; the
// first ones of all of them are the first ones of the cluster.
func (g *groupService) ListGroups(
	ctx context.Context, request *sluicev1.ListGroupsRequest,
) (*sluicev1.ListGroupsResponse, error) {
	t, there := g.s.cluster.Topic(offsetsTopic)
	if forwarded(ctx) || !there || g.s.alone() {
		return g.listHere(ctx, request)
	}
	list, err := newListing("groups", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	all := &sluicev1.ListGroupsResponse{}
	more := false
	for _, node := range coordinators(t) {
		page, err := g.listAt(ctx, node, t.Revision, request)
		if err != nil {
			return nil, err
		}
		all.Groups = append(all.Groups, page.GetGroups()...)
		more = more || page.GetNextPageToken() != ""
	}
	slices.SortFunc(all.Groups, func(a, b *sluicev1.Group) int {
		return strings.Compare(a.GetGroup(), b.GetGroup())
	})
	if more || len(all.Groups) > list.size {
		all.Groups = all.Groups[:min(len(all.Groups), list.size)]
		all.NextPageToken = list.token(all.Groups[len(all.Groups)-1].GetGroup())
	}
	return all, nil
}

// coordinators are the nodes that lead partitions of the offsets topic, NoLeader
// among them where nobody does.
func coordinators(t cluster.Topic) []int32 {
	var nodes []int32
	for _, p := range t.Partitions {
		if !slices.Contains(nodes, p.Leader) {
			nodes = append(nodes, p.Leader)
		}
	}
	return nodes
}

// listAt lists the groups that one node coordinates.
func (g *groupService) listAt(
	ctx context.Context, node int32, revision int64, request *sluicev1.ListGroupsRequest,
) (*sluicev1.ListGroupsResponse, error) {
	switch node {
	case g.s.cluster.NodeID():
		return g.listHere(ctx, request)
	case cluster.NoLeader:
		return nil, fault.CoordinatorNotAvailable.Because(
			"some partitions of %s have no leader at the moment", offsetsTopic)
	}
	page := &sluicev1.ListGroupsResponse{}
	to := route{node: node, revision: revision, as: "a coordinator"}
	return page, g.s.send(ctx, to, sluicev1.GroupService_ListGroups_FullMethodName, request, page)
}

// TrimTopic deletes the records before offsets of partitions, at the leader of
// each. Where one of several leaders refuses, the others may have trimmed.
func (t *topicService) TrimTopic(
	ctx context.Context, request *sluicev1.TrimTopicRequest,
) (*sluicev1.TrimTopicResponse, error) {
	if forwarded(ctx) || t.s.alone() {
		return t.trimHere(ctx, request)
	}
	own := route{node: t.s.cluster.NodeID()}
	at := t.s.cluster.Snapshot()
	var order []route
	parts := map[int32]*sluicev1.TrimTopicRequest{}
	for _, o := range request.GetOffsets() {
		to, err := leaderOf(own, request.GetTopic(), o.GetPartition(), at).
			orLeaderless(request.GetTopic(), o.GetPartition())
		if err != nil {
			return nil, err
		}
		if parts[to.node] == nil {
			order = append(order, to)
			parts[to.node] = &sluicev1.TrimTopicRequest{Topic: request.GetTopic()}
		}
		parts[to.node].Offsets = append(parts[to.node].Offsets, o)
	}
	if len(order) == 0 || len(order) == 1 && order[0].node == own.node {
		return t.trimHere(ctx, request)
	}
	starts := map[int32]*sluicev1.TrimResult{}
	for _, to := range order {
		done, err := t.trimAt(ctx, to, parts[to.node])
		if err != nil {
			return nil, err
		}
		for _, result := range done.GetResults() {
			starts[result.GetPartition()] = result
		}
	}
	all := &sluicev1.TrimTopicResponse{}
	for _, o := range request.GetOffsets() {
		all.Results = append(all.Results, starts[o.GetPartition()])
	}
	return all, nil
}

// trimAt trims the partitions that one node leads.
func (t *topicService) trimAt(
	ctx context.Context, to route, request *sluicev1.TrimTopicRequest,
) (*sluicev1.TrimTopicResponse, error) {
	if to.node == t.s.cluster.NodeID() {
		return t.trimHere(ctx, request)
	}
	reply := &sluicev1.TrimTopicResponse{}
	return reply, t.s.send(ctx, to, sluicev1.TopicService_TrimTopic_FullMethodName, request, reply)
}
