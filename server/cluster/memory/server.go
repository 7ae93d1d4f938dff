package memory

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// server answers one client.
type server struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedLeaseServer

	etcd *Etcd
	link *Link
}

// over makes a request over the link, both ways.
func over[R any](ctx context.Context, s *server, do func() (R, error)) (answer R, err error) {
	if err := s.link.pass(ctx); err != nil {
		return answer, err
	}
	answer, err = do()
	if lost := s.link.pass(ctx); lost != nil {
		return answer, lost
	}
	return answer, err
}

// Range reads keys as they are now; old revisions are not kept.
func (s *server) Range(
	ctx context.Context, r *etcdserverpb.RangeRequest,
) (*etcdserverpb.RangeResponse, error) {
	return over(ctx, s, func() (*etcdserverpb.RangeResponse, error) {
		s.etcd.mu.Lock()
		defer s.etcd.mu.Unlock()
		return s.etcd.read(r), nil
	})
}

func (e *Etcd) read(r *etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse {
	answer := &etcdserverpb.RangeResponse{Header: e.header()}
	var found []*mvccpb.KeyValue
	for _, name := range e.within(r.Key, r.RangeEnd) {
		found = append(found, e.keys[name])
	}
	answer.Count = int64(len(found))
	if r.CountOnly {
		return answer
	}
	if r.SortTarget == etcdserverpb.RangeRequest_MOD {
		slices.SortFunc(found, func(a, b *mvccpb.KeyValue) int {
			if r.SortOrder == etcdserverpb.RangeRequest_DESCEND {
				a, b = b, a
			}
			return int(a.ModRevision - b.ModRevision)
		})
	}
	if r.Limit > 0 && int64(len(found)) > r.Limit {
		found, answer.More = found[:r.Limit], true
	}
	for _, kv := range found {
		one := &mvccpb.KeyValue{
			Key: kv.Key, Value: kv.Value, Lease: kv.Lease, Version: kv.Version,
			CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		}
		if r.KeysOnly {
			one.Value = nil
		}
		answer.Kvs = append(answer.Kvs, one)
	}
	return answer
}

// Txn writes all or nothing.
func (s *server) Txn(
	ctx context.Context, r *etcdserverpb.TxnRequest,
) (*etcdserverpb.TxnResponse, error) {
	return over(ctx, s, func() (*etcdserverpb.TxnResponse, error) { return s.etcd.transact(r) })
}

// errUnsupported is what package cluster does not use.
var errUnsupported = errors.New("memory: no such operation")

func (e *Etcd) transact(r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := &etcdserverpb.TxnResponse{Succeeded: true}
	for _, c := range r.Compare {
		holds, err := e.holds(c)
		if err != nil {
			return nil, err
		}
		answer.Succeeded = answer.Succeeded && holds
	}
	ops := r.Success
	if !answer.Succeeded {
		ops = r.Failure
	}
	for _, op := range ops { // before anything is written
		if put := op.GetRequestPut(); put != nil && put.Lease != 0 && e.leases[put.Lease] == nil {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
	}
	var events []*mvccpb.Event
	for _, op := range ops {
		done, changes, err := e.do(op)
		if err != nil {
			return nil, err
		}
		events = append(events, changes...)
		answer.Responses = append(answer.Responses, done)
	}
	if len(events) > 0 {
		e.revision++
		e.publish(events)
	}
	answer.Header = e.header()
	return answer, nil
}

// do makes one operation of a transaction. The lock is held.
func (e *Etcd) do(op *etcdserverpb.RequestOp) (
	*etcdserverpb.ResponseOp, []*mvccpb.Event, error,
) {
	switch {
	case op.GetRequestPut() != nil:
		event, err := e.put(op.GetRequestPut(), e.revision+1)
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponsePut{
			ResponsePut: &etcdserverpb.PutResponse{Header: e.header()},
		}}, []*mvccpb.Event{event}, err
	case op.GetRequestDeleteRange() != nil:
		r := op.GetRequestDeleteRange()
		events := e.remove(r.Key, r.RangeEnd, e.revision+1)
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &etcdserverpb.DeleteRangeResponse{
				Header: e.header(), Deleted: int64(len(events)),
			},
		}}, events, nil
	}
	return nil, nil, errUnsupported
}

// holds reports whether a guard holds. The lock is held.
func (e *Etcd) holds(c *etcdserverpb.Compare) (bool, error) {
	kv := e.keys[string(c.Key)]
	if kv == nil {
		kv = &mvccpb.KeyValue{}
	}
	var is, with int64
	switch c.Target {
	case etcdserverpb.Compare_CREATE:
		is, with = kv.CreateRevision, c.GetCreateRevision()
	case etcdserverpb.Compare_MOD:
		is, with = kv.ModRevision, c.GetModRevision()
	default:
		return false, errUnsupported
	}
	switch c.Result {
	case etcdserverpb.Compare_EQUAL:
		return is == with, nil
	case etcdserverpb.Compare_NOT_EQUAL:
		return is != with, nil
	case etcdserverpb.Compare_GREATER:
		return is > with, nil
	case etcdserverpb.Compare_LESS:
		return is < with, nil
	}
	return false, errUnsupported
}

// LeaseGrant makes a lease that ends in its time.
func (s *server) LeaseGrant(
	ctx context.Context, r *etcdserverpb.LeaseGrantRequest,
) (*etcdserverpb.LeaseGrantResponse, error) {
	return over(ctx, s, func() (*etcdserverpb.LeaseGrantResponse, error) {
		e := s.etcd
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lastLease++
		id := e.lastLease
		whole := time.Duration(r.TTL) * time.Second
		e.leases[id] = &lease{
			seconds: r.TTL, ends: time.Now().Add(whole),
			timer: time.AfterFunc(whole, func() { e.expire(id) }),
		}
		return &etcdserverpb.LeaseGrantResponse{Header: e.header(), ID: id, TTL: r.TTL}, nil
	})
}

// LeaseRevoke ends a lease.
func (s *server) LeaseRevoke(
	ctx context.Context, r *etcdserverpb.LeaseRevokeRequest,
) (*etcdserverpb.LeaseRevokeResponse, error) {
	return over(ctx, s, func() (*etcdserverpb.LeaseRevokeResponse, error) {
		if !s.etcd.expire(r.ID) {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
		s.etcd.mu.Lock()
		defer s.etcd.mu.Unlock()
		return &etcdserverpb.LeaseRevokeResponse{Header: s.etcd.header()}, nil
	})
}

// LeaseTimeToLive says what a lease has left, in whole seconds.
func (s *server) LeaseTimeToLive(
	ctx context.Context, r *etcdserverpb.LeaseTimeToLiveRequest,
) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
	return over(ctx, s, func() (*etcdserverpb.LeaseTimeToLiveResponse, error) {
		e := s.etcd
		e.mu.Lock()
		defer e.mu.Unlock()
		answer := &etcdserverpb.LeaseTimeToLiveResponse{Header: e.header(), ID: r.ID, TTL: -1}
		if l := e.leases[r.ID]; l != nil {
			answer.TTL = int64(time.Until(l.ends).Seconds())
			answer.GrantedTTL = l.seconds
		}
		return answer, nil
	})
}

// LeaseKeepAlive lets leases begin anew. One that is gone has no time left.
func (s *server) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		answer, err := over(stream.Context(), s,
			func() (*etcdserverpb.LeaseKeepAliveResponse, error) {
				e := s.etcd
				e.mu.Lock()
				defer e.mu.Unlock()
				answer := &etcdserverpb.LeaseKeepAliveResponse{Header: e.header(), ID: r.ID}
				if l := e.leases[r.ID]; l != nil {
					whole := time.Duration(l.seconds) * time.Second
					l.ends = time.Now().Add(whole)
					l.timer.Reset(whole)
					answer.TTL = l.seconds
				}
				return answer, nil
			})
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}
