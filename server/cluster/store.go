package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// store reads and writes keys below the root of a cluster. Every write is one
// transaction with guards (M).
type store struct {
	client  *clientv3.Client
	root    string // ends in a slash
	timeout time.Duration
	// leaderless reports whether the node's own etcd has no leader; nil if it has
	// none of its own.
	leaderless func() bool
}

// guard is a condition that must hold for a write to happen.
type guard = clientv3.Cmp

// write is a put or a delete.
type write = clientv3.Op

// absent holds while a key is not there.
func (s *store) absent(key string) guard {
	return clientv3.Compare(clientv3.CreateRevision(s.root+key), "=", 0)
}

// unchanged holds while the last change of a key was at a revision; 0 says that
// it is not there.
func (s *store) unchanged(key string, mod int64) guard {
	return clientv3.Compare(clientv3.ModRevision(s.root+key), "=", mod)
}

// created holds while a key is the one that was created at a revision.
func (s *store) created(key string, revision int64) guard {
	return clientv3.Compare(clientv3.CreateRevision(s.root+key), "=", revision)
}

func (s *store) put(key string, record any) write {
	return clientv3.OpPut(s.root+key, encode(record))
}

// putLeased writes a key that goes when the lease goes.
func (s *store) putLeased(key string, record any, lease clientv3.LeaseID) write {
	return clientv3.OpPut(s.root+key, encode(record), clientv3.WithLease(lease))
}

func (s *store) remove(key string) write { return clientv3.OpDelete(s.root + key) }

func (s *store) removeAll(prefix string) write {
	return clientv3.OpDelete(s.root+prefix, clientv3.WithPrefix())
}

// errConflict says that a guard did not hold: nothing was written.
var errConflict = errors.New("the metadata changed meanwhile")

// commit writes all or nothing, and returns the revision of the write. The
// error is errConflict if a guard did not hold. Any other error leaves open
// whether the write happened, or will happen (M2).
func (s *store) commit(ctx context.Context, guards []guard, writes ...write) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.client.Txn(ctx).If(guards...).Then(writes...).Commit()
	if err != nil {
		return 0, s.translate(ctx, err)
	}
	if !answer.Succeeded {
		return answer.Header.Revision, errConflict
	}
	return answer.Header.Revision, nil
}

// get reads one key, linearisably. An entry with mod 0 is not there.
func get[R any](ctx context.Context, s *store, key string) (entry[R], clientv3.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var e entry[R]
	answer, err := s.read(ctx, s.root+key)
	if err != nil {
		return e, 0, s.translate(ctx, err)
	}
	if len(answer.Kvs) == 0 {
		return e, 0, nil
	}
	kv := answer.Kvs[0]
	if err := apply(&e, s.eventOf(kv)); err != nil {
		return e, 0, err
	}
	return e, clientv3.LeaseID(kv.Lease), nil
}

// revision returns the revision of etcd, linearisably. In an etcd that is shared
// it grows with what concerns others, and no watch here may ever get there.
func (s *store) revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.read(ctx, s.root, clientv3.WithCountOnly())
	if err != nil {
		return 0, s.translate(ctx, err)
	}
	return answer.Header.Revision, nil
}

// newest returns the revision of the newest key below the root, linearisably. It
// makes etcd sort all of them.
func (s *store) newest(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.read(ctx, s.root, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend),
		clientv3.WithLimit(1))
	if err != nil {
		return 0, s.translate(ctx, err)
	}
	if len(answer.Kvs) == 0 {
		return 0, nil
	}
	return answer.Kvs[0].ModRevision, nil
}

// read asks etcd, again if its leader changes meanwhile.
func (s *store) read(
	ctx context.Context, key string, options ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	for {
		answer, err := s.client.Get(ctx, key, options...)
		if !errors.Is(err, rpctypes.ErrLeaderChanged) {
			return answer, err
		}
		if err := run.Pause(ctx, retryMin); err != nil {
			return nil, err
		}
	}
}

func (s *store) eventOf(kv *mvccpb.KeyValue) event {
	value := kv.Value
	if value == nil {
		value = []byte{} // only a delete has no value
	}
	return event{
		key: string(kv.Key[len(s.root):]), value: value,
		mod: kv.ModRevision, create: kv.CreateRevision,
	}
}

const pageCount = 1000

// list reads every key below the root as of one revision.
func (s *store) list(ctx context.Context) ([]event, int64, error) {
	var events []event
	var revision int64
	end := clientv3.GetPrefixRangeEnd(s.root)
	for key := s.root; ; {
		page, cancel := context.WithTimeout(ctx, s.timeout)
		answer, err := s.read(page, key, clientv3.WithRange(end),
			clientv3.WithLimit(pageCount), clientv3.WithRev(revision))
		if err != nil {
			err = s.translate(page, err)
		}
		cancel()
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		for _, kv := range answer.Kvs {
			events = append(events, s.eventOf(kv))
			key = string(kv.Key) + "\x00"
		}
		if !answer.More {
			return events, revision, nil
		}
	}
}

// watch calls seen with the changes from a revision on, in order, and with all of
// one revision at once. Changes that came while seen was at work are one call: so
// many small ones cost about as much as a few. It returns an error when the watch
// breaks; rpctypes.ErrCompacted says that older revisions are gone.
func (s *store) watch(
	ctx context.Context, from int64, seen func([]event, int64) error,
) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	changes := s.client.Watch(ctx, s.root, clientv3.WithPrefix(), clientv3.WithRev(from))
	came := make(chan clientv3.WatchResponse, watchBacklog)
	reading.Go(func() {
		defer close(came)
		for answer := range changes {
			select {
			case came <- answer:
			case <-ctx.Done():
				return
			}
		}
	})
	for answer := range came {
		var events []event
		var revision int64
		err := answer.Err()
		for more := true; more && err == nil; {
			events, revision = s.appendEvents(events, answer), answer.Header.Revision
			if answer, more = waiting(came); more {
				err = answer.Err()
			}
		}
		if len(events) > 0 { // otherwise a notice that the watch is alive
			if err := seen(events, revision); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.New("the watch ended")
}

// watchBacklog is how many answers of a watch wait for the one that is at work.
const watchBacklog = 256

// waiting returns an answer that is there already.
func waiting(came <-chan clientv3.WatchResponse) (clientv3.WatchResponse, bool) {
	select {
	case answer, ok := <-came:
		return answer, ok
	default:
		return clientv3.WatchResponse{}, false
	}
}

func (s *store) appendEvents(to []event, answer clientv3.WatchResponse) []event {
	for _, e := range answer.Events {
		change := s.eventOf(e.Kv)
		if e.Type == clientv3.EventTypeDelete {
			change.value = nil
		}
		to = append(to, change)
	}
	return to
}

// grant makes a lease. Etcd may give it more time than was asked for.
func (s *store) grant(
	ctx context.Context, ttl time.Duration,
) (clientv3.LeaseID, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.client.Grant(ctx, int64(math.Ceil(ttl.Seconds())))
	if err != nil {
		return 0, 0, s.translate(ctx, err)
	}
	return answer.ID, time.Duration(answer.TTL) * time.Second, nil
}

// timeToLive returns what a lease has left, in whole seconds and no less; 0 if it is
// gone.
func (s *store) timeToLive(
	ctx context.Context, lease clientv3.LeaseID,
) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answer, err := s.client.TimeToLive(ctx, lease)
	if err != nil {
		return 0, s.translate(ctx, err)
	}
	return time.Duration(max(answer.TTL+1, 0)) * time.Second, nil // -1: there is none
}

// revoke ends a lease; one that is gone already is fine.
func (s *store) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return s.translate(ctx, err)
	}
	return nil
}

// renew keeps a lease alive. It returns rpctypes.ErrLeaseNotFound if it is
// gone.
func (s *store) renew(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.KeepAliveOnce(ctx, lease)
	return err
}

// translate is translate, and says so where the reason is the loss of the
// quorum.
func (s *store) translate(ctx context.Context, err error) error {
	if s.leaderless != nil && s.leaderless() && !errors.Is(ctx.Err(), context.Canceled) {
		return fault.BrokerNotAvailable.Wrap(errNoQuorum)
	}
	return translate(ctx, err)
}

var errNoQuorum = errors.New("the metadata cannot be changed: a majority of the metadata " +
	"quorum is out of reach; it goes on by itself when it is back")

// translate gives what etcd says a row of the catalogue. ctx is the one of the
// request.
func translate(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("asking etcd: %w", context.Canceled)
	case ctx.Err() != nil || errors.Is(err, rpctypes.ErrTimeout):
		return fault.RequestTimedOut.Wrap(fmt.Errorf("asking etcd: %w", err))
	}
	return fault.BrokerNotAvailable.Wrap(fmt.Errorf("asking etcd: %w", err))
}
