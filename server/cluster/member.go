package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// member is the node's own life in the cluster (rules B): it registers once,
// which gives it a broker epoch, and then keeps a lease alive that all others
// see it by.
type member struct {
	store *store
	feed  *feed
	log   *slog.Logger
	clock func() time.Duration
	id    int32
	dirID UUID
	ttl   time.Duration // of the lease: broker.session.timeout.ms, in whole seconds

	verdict Verdict // on the records of the node at its start

	epoch int64 // the broker epoch; fixed by register

	mu       sync.Mutex
	lease    clientv3.LeaseID
	deadline time.Duration // since boot; past it the node is fenced (B2)
	resume   int64         // the revision to act by before it is no longer fenced (B3)
	applied  int64         // the revision that it acts by; 0 while nobody says
	live     liveRecord    // as it stands in etcd
	liveMod  int64
}

// leaseMargin is how much earlier than etcd a node believes that its lease is over,
// counted from when it sent the renewal that came last (B2). Etcd counts from when
// it got it, and anew when its leader changes, so it ends a lease late, never early;
// the margin is for clocks of which one is faster, and for what is on its way.
func leaseMargin(ttl time.Duration) time.Duration { return ttl / 6 }

// renewTime is how long a node waits between two renewals.
func renewTime(ttl time.Duration) time.Duration { return ttl / 4 }

// renewTimeout is how long a node waits for the answer to a renewal: what was sent to
// an etcd that is paused can be sent once more in time, to the one that leads then.
func renewTimeout(ttl time.Duration) time.Duration { return ttl / 3 }

// renewRetry is how long a node waits after a renewal that failed.
func renewRetry(ttl time.Duration) time.Duration {
	return min(500*time.Millisecond, ttl/8)
}

const registerAttemptCount = 10

// register announces this start of the node. An old lease of the same data
// directory is ended at once: the lock on the directory proves that its holder
// is gone. That of another directory must expire first.
func (m *member) register(ctx context.Context) error {
	m.live.Version, m.live.Incarnation, m.live.State = recordVersion, newID(), BrokerRunning
	for range registerAttemptCount {
		epoch, _, err := get[epochRecord](ctx, m.store, keyEpoch(m.id))
		if err != nil {
			return err
		}
		if err := m.clear(ctx, epoch); err != nil {
			return err
		}
		if err = m.claim(ctx, epoch.mod); err == nil {
			_, err = m.feed.await(ctx, m.epoch)
			return err
		}
		if !errors.Is(err, errConflict) {
			return err
		}
	}
	return fmt.Errorf("--node-id %d: another node keeps registering under it", m.id)
}

// clear makes sure that no earlier start of the node counts as alive.
func (m *member) clear(ctx context.Context, epoch entry[epochRecord]) error {
	live, lease, err := get[liveRecord](ctx, m.store, keyLive(m.id))
	if err != nil || live.mod == 0 {
		return err
	}
	if epoch.record.DirID == m.dirID {
		return m.store.revoke(ctx, lease)
	}
	m.log.Info("waiting for an earlier node of this id to expire", "node", m.id,
		"address", live.record.GRPC)
	left, err := m.store.timeToLive(ctx, lease)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, left+leaseMarginOthers, errIDInUse)
	defer cancel()
	_, err = m.feed.until(wait, func(s *Snapshot) bool { return s.nodes[m.id].live.mod == 0 })
	if errors.Is(err, errIDInUse) {
		return fmt.Errorf("--node-id %d is in use by the node at %q with another data "+
			"directory: choose another id, or stop that node", m.id, live.record.GRPC)
	}
	return err
}

// leaseMarginOthers is how much later than its time a lease may expire.
const leaseMarginOthers = 2 * time.Second

var errIDInUse = errors.New("the node id is in use")

// claim writes epoch and live under a new lease.
func (m *member) claim(ctx context.Context, epochMod int64) error {
	sent := m.clock()
	lease, granted, err := m.store.grant(ctx, m.ttl)
	if err != nil {
		return err
	}
	if granted > m.ttl {
		m.log.Warn("etcd gives no lease as short as broker.session.timeout.ms: the node is "+
			"given up later", "asked", m.ttl, "granted", granted)
	}
	record := epochRecord{
		Version: recordVersion, Incarnation: m.live.Incarnation, DirID: m.dirID,
		Verdict: m.verdict,
	}
	revision, err := m.store.commit(ctx,
		[]guard{m.store.unchanged(keyEpoch(m.id), epochMod), m.store.absent(keyLive(m.id))},
		m.store.put(keyEpoch(m.id), record),
		m.store.putLeased(keyLive(m.id), m.live, lease))
	if err != nil {
		return errors.Join(err, m.store.revoke(ctx, lease))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch, m.lease, m.liveMod = revision, lease, revision
	m.deadline = sent + m.ttl - leaseMargin(m.ttl)
	return nil
}

// keep keeps the lease alive until ctx is done. It returns an error if another
// node has taken over the id: this one must stop.
func (m *member) keep(ctx context.Context) error {
	troubled := false
	for {
		if err := m.awaitRenewal(ctx, troubled); err != nil {
			return err
		}
		err := m.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errTakenOver):
			return err
		case err != nil:
			m.log.Warn("the node's lease is not renewed", "error", err, "fenced", m.fenced())
			troubled = true
		case troubled:
			m.log.Info("the node's lease is renewed again")
			troubled = false
		}
	}
}

// awaitRenewal waits until it is time to renew the lease, or the cluster takes the
// node for gone. After trouble it waits for a shorter while.
func (m *member) awaitRenewal(ctx context.Context, troubled bool) error {
	wait := renewTime(m.ttl)
	if troubled {
		wait = renewRetry(m.ttl)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		s := m.feed.snapshot()
		changed := s.changed
		if s.nodes[m.id].live.mod == 0 {
			if !troubled {
				return nil
			}
			changed = nil // it was tried a moment ago
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errTakenOver = errors.New("another node registered under this node's id")

// renew keeps the lease alive, or replaces it if it is gone.
func (m *member) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout(m.ttl))
	defer cancel()
	m.mu.Lock()
	lease := m.lease
	m.mu.Unlock()
	sent := m.clock()
	err := m.store.renew(ctx, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return m.rejoin(ctx)
	}
	if err == nil && m.feed.snapshot().nodes[m.id].live.mod == 0 {
		return m.rejoin(ctx) // the lease lives without its key
	}
	resume := int64(0)
	if err == nil && m.expired() {
		resume, err = m.catchUp(ctx)
	}
	if err != nil {
		return err
	}
	m.renewed(sent, resume)
	return nil
}

// renewed says when a lease began that holds. A node that was fenced meanwhile
// acts again once it acts by the metadata of a revision.
func (m *member) renewed(sent time.Duration, resume int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deadline, m.resume = sent+m.ttl-leaseMargin(m.ttl), max(m.resume, resume)
}

// catchUp waits until the node knows everything that was decided before now, and
// returns the revision: as long as it was fenced, others may have taken its place
// (B3).
func (m *member) catchUp(ctx context.Context) (int64, error) {
	revision, err := m.store.newest(ctx)
	if err != nil {
		return 0, err
	}
	_, err = m.feed.await(ctx, revision)
	return revision, err
}

// rejoin gets a new lease for the same broker epoch.
func (m *member) rejoin(ctx context.Context) error {
	sent := m.clock()
	lease, _, err := m.store.grant(ctx, m.ttl)
	if err != nil {
		return err
	}
	m.mu.Lock()
	live := m.live
	m.mu.Unlock()
	revision, err := m.store.commit(ctx,
		[]guard{m.store.unchanged(keyEpoch(m.id), m.epoch), m.store.absent(keyLive(m.id))},
		m.store.putLeased(keyLive(m.id), live, lease))
	if err != nil {
		return errors.Join(m.explain(ctx, err), m.store.revoke(ctx, lease))
	}
	m.mu.Lock()
	m.lease, m.liveMod = lease, revision
	m.mu.Unlock()
	if _, err := m.feed.await(ctx, revision); err != nil {
		return err // it stays fenced: what it knows is older than its new lease
	}
	m.renewed(sent, revision)
	return nil
}

// explain tells a conflict with another node of the same id from one that
// passes.
func (m *member) explain(ctx context.Context, err error) error {
	if !errors.Is(err, errConflict) {
		return err
	}
	epoch, _, readErr := get[epochRecord](ctx, m.store, keyEpoch(m.id))
	if readErr == nil && epoch.mod != m.epoch {
		return fmt.Errorf("node %d: %w", m.id, errTakenOver)
	}
	return err
}

// update changes what the others see of the node, and returns the revision. An update
// before, of which etcd said that it took too long, may have been made all the same, or
// be made before this one: then that is what is changed.
func (m *member) update(ctx context.Context, change func(*liveRecord)) (int64, error) {
	for tries := 3; ; tries-- {
		revision, err := m.updateOnce(ctx, change)
		if !errors.Is(err, errConflict) || tries == 1 {
			return revision, err
		}
		live, _, readErr := get[liveRecord](ctx, m.store, keyLive(m.id))
		if readErr != nil {
			return 0, readErr
		}
		m.mu.Lock()
		own := live.record.Incarnation == m.live.Incarnation
		if own {
			m.live, m.liveMod = live.record, live.mod
		}
		m.mu.Unlock()
		if !own {
			return 0, err
		}
	}
}

func (m *member) updateOnce(ctx context.Context, change func(*liveRecord)) (int64, error) {
	m.mu.Lock()
	live, mod, lease := m.live, m.liveMod, m.lease
	m.mu.Unlock()
	change(&live)
	revision, err := m.store.commit(ctx,
		[]guard{
			m.store.unchanged(keyEpoch(m.id), m.epoch), m.store.unchanged(keyLive(m.id), mod),
		},
		m.store.putLeased(keyLive(m.id), live, lease))
	if err != nil {
		return 0, m.explain(ctx, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live, m.liveMod = live, revision
	return revision, nil
}

// expired reports whether the lease may be over as far as the node can tell.
func (m *member) expired() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock() >= m.deadline
}

// fenced reports whether the node must not act as a leader (B3): its lease may be
// over, or was, and it still acts by what it knew before. To know the newer
// metadata is not enough: a partition that another node has led meanwhile is
// served, with the end that its log had, until the node has given it up.
func (m *member) fenced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock() >= m.deadline || m.applied > 0 && m.applied < m.resume
}

// act says that the node acts by the metadata of a revision from now on.
func (m *member) act(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = max(m.applied, revision)
}

// leave ends the lease: the node is gone for all others at once.
func (m *member) leave(ctx context.Context) error {
	m.mu.Lock()
	lease := m.lease
	m.mu.Unlock()
	if lease == 0 {
		return nil
	}
	return m.store.revoke(ctx, lease)
}
