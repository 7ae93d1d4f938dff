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
	reason string // why there is no broker yet
	built  atomic.Pointer[builtBroker]
}

// builtBroker is what a lateBroker stands for.
type builtBroker struct {
	grpc.ClientConnInterface
	ready   func() error
	metrics prometheus.Gatherer
}

func newLateBroker(reason string) *lateBroker { return &lateBroker{reason: reason} }

// set gives it the broker.
func (l *lateBroker) set(b *builtBroker) { l.built.Store(b) }

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
