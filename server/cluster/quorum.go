package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// QuorumMember is an etcd that keeps the metadata.
type QuorumMember struct {
	// NodeID is the node whose embedded etcd it is, or NoLeader where the name
	// does not say.
	NodeID int32
	// Name is what etcd calls it; empty until it has started.
	Name string
	// Address is where the other members reach it.
	Address string
	// Learner says that it does not vote yet: it still catches up.
	Learner bool
	// Leader says that it leads the quorum.
	Leader bool
	// Started says that it has run at least once.
	Started bool

	id uint64
}

const (
	promoteRetry  = 100 * time.Millisecond
	memberRetry   = 500 * time.Millisecond
	handOverTime  = time.Second
	memberAddTime = 20 * time.Second
)

// enter makes a member that has joined as a learner a voting one, once it has
// caught up.
func (b *backend) enter(ctx context.Context) error {
	server := b.server.Server
	for b.joining || server.IsLearner() { // a new one does not know what it is yet
		attempt, cancel := context.WithTimeout(ctx, b.cfg.RequestTimeout)
		_, err := server.PromoteMember(attempt, uint64(server.MemberID()))
		cancel()
		if err == nil || errors.Is(err, membership.ErrMemberNotLearner) {
			b.joining = false
			return nil
		}
		b.cfg.Logger.Debug("the member is not promoted yet", "error", err)
		select {
		case <-server.StopNotify():
			return errors.New("it stopped")
		case err := <-b.server.Err():
			return err
		case <-ctx.Done():
			return b.explainLate(context.Cause(ctx))
		case <-time.After(promoteRetry):
		}
	}
	return nil
}

// advertisePeer tells the quorum where this member is reached now, if that has
// changed: a node that began alone gets its address when it is to get peers.
func (b *backend) advertisePeer(ctx context.Context) error {
	if !b.cfg.clustered() {
		return nil
	}
	server := b.server.Server
	u := b.cfg.peerURL(b.cfg.peerAddress())
	member := server.Cluster().Member(server.MemberID())
	if member == nil || slices.Equal(member.PeerURLs, []string{u.String()}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.RequestTimeout)
	defer cancel()
	_, err := b.client.MemberUpdate(ctx, uint64(server.MemberID()), []string{u.String()})
	if err != nil {
		return fmt.Errorf("telling the metadata quorum of --etcd-peer-listen: %w", err)
	}
	return nil
}

// handOver gives the lead of the quorum to another member, so that the others
// need not find out that this one is gone.
func (b *backend) handOver() {
	server := b.server.Server
	if !b.cfg.clustered() || server.Leader() != server.MemberID() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	for _, m := range server.Cluster().Members() {
		if m.IsLearner || m.ID == server.MemberID() || ctx.Err() != nil {
			continue
		}
		attempt, done := context.WithTimeout(ctx, handOverTime/2)
		err := server.MoveLeader(attempt, uint64(server.MemberID()), uint64(m.ID))
		done()
		if err == nil {
			return
		}
	}
}

// leaderless reports whether the node's own etcd knows of no leader: there is
// no majority, or one is being elected.
func (b *backend) leaderless() bool {
	return b.server != nil && b.server.Server.Leader() == 0
}

// Quorum returns the members of the etcd that keeps the metadata, sorted by
// node.
//
// Errors: RequestTimedOut, BrokerNotAvailable.
func (c *Cluster) Quorum(ctx context.Context) ([]QuorumMember, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for {
		list, err := c.backend.client.MemberList(ctx)
		if err == nil {
			return c.quorumOf(list.Members), nil
		}
		// As when the member that led has just left.
		if !errors.Is(err, rpctypes.ErrLeaderChanged) || run.Pause(ctx, retryMin) != nil {
			return nil, c.store.translate(ctx, err)
		}
	}
}

func (c *Cluster) quorumOf(list []*etcdserverpb.Member) []QuorumMember {
	leader := uint64(0)
	if server := c.backend.server; server != nil {
		leader = server.Server.Lead()
	}
	members := make([]QuorumMember, 0, len(list))
	for _, m := range list {
		one := QuorumMember{
			NodeID: NoLeader, Name: m.GetName(), Learner: m.GetIsLearner(), id: m.GetID(),
			Leader: leader != 0 && m.GetID() == leader, Started: len(m.GetClientURLs()) > 0,
		}
		if node, ok := nodeOfMember(m.GetName()); ok {
			one.NodeID = node
		} else if m.GetName() == embeddedName {
			one.NodeID = c.cfg.NodeID // alone, from before it had an address
		}
		if urls := m.GetPeerURLs(); len(urls) > 0 {
			one.Address = hostOf(urls[0])
		}
		members = append(members, one)
	}
	slices.SortFunc(members, func(a, b QuorumMember) int { return int(a.NodeID - b.NodeID) })
	return members
}

// AddQuorumMember lets the embedded etcd of a new node into the quorum: the node
// can then be started, catches up, and votes. It returns all members, which are
// what --etcd-initial-cluster of the new node has to name. With replace a member
// of the same node or address, whose disk is lost, is removed before.
//
// Errors: InvalidRequest, IllegalState (an external etcd; the node is a member
// already; the quorum would lose its majority), RequestTimedOut,
// BrokerNotAvailable.
func (c *Cluster) AddQuorumMember(
	ctx context.Context, peer Peer, replace bool,
) ([]QuorumMember, error) {
	if err := c.ownQuorum(); err != nil {
		return nil, err
	}
	if checkAddress("", peer.Address) != nil || peer.Address == "" {
		return nil, fault.InvalidRequest.With().At("peer_address",
			fmt.Sprintf("%.100q is not host:port", peer.Address))
	}
	members, err := c.Quorum(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.NodeID != peer.NodeID && m.Address != peer.Address {
			continue
		}
		if !m.Started && m.Address == peer.Address {
			return members, nil // added before, and not started yet
		}
		if !replace {
			return nil, fault.IllegalState.Because("node %d at %s is a member of the metadata "+
				"quorum; replace it only if its disk is lost", m.NodeID, m.Address)
		}
		if err := c.removeMember(ctx, m); err != nil {
			return nil, err
		}
	}
	u := c.cfg.peerURL(peer.Address)
	err = c.reconfigure(ctx, func(ctx context.Context) error {
		_, err := c.backend.client.MemberAddAsLearner(ctx, []string{u.String()})
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.Quorum(ctx)
}

// RemoveQuorumMember takes the embedded etcd of a node out of the quorum.
//
// Errors: ResourceNotFound (it is no member), IllegalState (an external etcd;
// the last member; the rest would have no majority), RequestTimedOut,
// BrokerNotAvailable.
func (c *Cluster) RemoveQuorumMember(ctx context.Context, node int32) error {
	if err := c.ownQuorum(); err != nil {
		return err
	}
	members, err := c.Quorum(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(m QuorumMember) bool { return m.NodeID == node })
	if at < 0 {
		return fault.ResourceNotFound.With("broker", node).Because(
			"node %d is no member of the metadata quorum", node)
	}
	if len(members) == 1 {
		return fault.IllegalState.Because("node %d is the last member of the metadata quorum",
			node)
	}
	return c.removeMember(ctx, members[at])
}

func (c *Cluster) ownQuorum() error {
	if c.backend.server == nil {
		return fault.IllegalState.Because("the metadata is in an external etcd, whose members " +
			"its own tools add and remove")
	}
	if !c.cfg.clustered() {
		return fault.IllegalState.Because("node %d keeps the metadata alone and has no address "+
			"for other members: start it with --etcd-peer-listen first", c.cfg.NodeID)
	}
	return nil
}

func (c *Cluster) removeMember(ctx context.Context, m QuorumMember) error {
	return c.reconfigure(ctx, func(ctx context.Context) error {
		_, err := c.backend.client.MemberRemove(ctx, m.id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		return err
	})
}

// reconfigure changes the members of the quorum. For a few seconds after a
// change or an election etcd refuses the next one as unhealthy; that passes.
func (c *Cluster) reconfigure(
	ctx context.Context, change func(context.Context) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, memberAddTime)
	defer cancel()
	for {
		err := change(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, rpctypes.ErrUnhealthy),
			errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
			if run.Pause(ctx, memberRetry) == nil {
				continue
			}
			return fault.IllegalState.Because("the metadata quorum cannot be changed while "+
				"members are down: %v", err)
		case errors.Is(err, rpctypes.ErrMemberExist), errors.Is(err, rpctypes.ErrPeerURLExist),
			errors.Is(err, rpctypes.ErrTooManyLearners):
			return fault.IllegalState.Because("%v", err)
		}
		return c.store.translate(ctx, err)
	}
}
