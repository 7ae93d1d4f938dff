package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/internal/fault"
)

// lateBroker is a broker that is still being built: until it is set, calls fail
// with BROKER_NOT_AVAILABLE, the node is not ready, and there are no metrics.
type lateBroker struct {
	reason  string // why there is no broker yet
	built   atomic.Pointer[builtBroker]
	arrived chan struct{} // closed once built is set
}

// builtBroker is what a lateBroker stands for.
type builtBroker struct {
	grpc.ClientConnInterface
	ready   func() error
	metrics prometheus.Gatherer
}

func newLateBroker(reason string) *lateBroker {
	return &lateBroker{reason: reason, arrived: make(chan struct{})}
}

// set gives it the broker, once.
func (l *lateBroker) set(b *builtBroker) {
	l.built.Store(b)
	close(l.arrived)
}

// ready returns why the node cannot serve, or nil.
func (l *lateBroker) ready() error {
	if b := l.built.Load(); b != nil {
		return b.ready()
	}
	return errors.New(l.reason)
}

// gather returns the broker's metrics.
func (l *lateBroker) gather() ([]*dto.MetricFamily, error) {
	if b := l.built.Load(); b != nil {
		return b.metrics.Gather()
	}
	return nil, nil
}

// refusal is what calls get before there is a broker.
func (l *lateBroker) refusal() error {
	return fault.Status(fault.BrokerNotAvailable.Because("%s", l.reason)).Err()
}

// Invoke makes a unary call (grpc.ClientConnInterface).
func (l *lateBroker) Invoke(
	ctx context.Context, method string, args, reply any, opts ...grpc.CallOption,
) error {
	if b := l.built.Load(); b != nil {
		return b.Invoke(ctx, method, args, reply, opts...)
	}
	return l.refusal()
}

// NewStream opens a stream (grpc.ClientConnInterface).
func (l *lateBroker) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if b := l.built.Load(); b != nil {
		return b.NewStream(ctx, desc, method, opts...)
	}
	return nil, l.refusal()
}

// awaitedBroker is a lateBroker whose calls wait until it is set, for what works
// in the background: to that, a node that is starting is no failure.
type awaitedBroker struct{ late *lateBroker }

// wait returns once there is a broker, or ctx ends.
func (a awaitedBroker) wait(ctx context.Context) error {
	select {
	case <-a.late.arrived:
		return nil
	case <-ctx.Done():
		return fault.Status(ctx.Err()).Err()
	}
}

// Invoke makes a unary call (grpc.ClientConnInterface).
func (a awaitedBroker) Invoke(
	ctx context.Context, method string, args, reply any, opts ...grpc.CallOption,
) error {
	if err := a.wait(ctx); err != nil {
		return err
	}
	return a.late.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream (grpc.ClientConnInterface).
func (a awaitedBroker) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return a.late.NewStream(ctx, desc, method, opts...)
}
