package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
)

// What a call that one node hands on to another carries beside what its caller
// sent.
const (
	// ForwardedHeader is the id of the node that hands the call on. A call that
	// has it is never handed on again. A caller that finds leaders by itself may
	// send it with any value, and is then told NOT_LEADER_OR_FOLLOWER instead of
	// being served by way of another node.
	ForwardedHeader = "sluice-forwarded-by"
	// callerHeader is the address of the caller at the first node.
	callerHeader = "sluice-caller"
	// revisionHeader is the revision of the metadata that the sender knows and
	// the receiver must know; in an answer, that of a change it made.
	revisionHeader = "sluice-revision"
)

const (
	// routeTime bounds how long a call waits for a leader to be elected, a
	// connection to come up, or a node to know what the sender knows.
	routeTime = 5 * time.Second
	// routeRetry is the longest wait between two tries where the metadata do not
	// change.
	routeRetry = 100 * time.Millisecond
)

// forwarded reports whether another node has handed the call on.
func forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, ForwardedHeader)) > 0
}

// onward returns a context for handing a call on: with what its caller sent, who
// that is, and that this is the one hop.
func (s *Server) onward(ctx context.Context, revision int64) context.Context {
	md := metadata.MD{}
	if incoming, ok := metadata.FromIncomingContext(ctx); ok {
		for name, values := range incoming {
			if !ofTransport(name) {
				md[name] = slices.Clone(values)
			}
		}
	}
	if len(md[callerHeader]) == 0 {
		md.Set(callerHeader, peerOf(ctx))
	}
	md.Set(ForwardedHeader, strconv.Itoa(int(s.cluster.NodeID())))
	md.Set(revisionHeader, strconv.FormatInt(revision, 10))
	return metadata.NewOutgoingContext(ctx, md)
}

// ofTransport reports whether a header belongs to the connection.
func ofTransport(name string) bool {
	switch name {
	case "content-type", "user-agent", "te", "host", "connection", ForwardedHeader,
		callerHeader, revisionHeader:
		return true
	}
	return strings.HasPrefix(name, ":") || strings.HasPrefix(name, "grpc-")
}

// revisionOf reads a revision out of metadata; 0 if there is none.
func revisionOf(md metadata.MD) int64 {
	values := md.Get(revisionHeader)
	if len(values) != 1 {
		return 0
	}
	revision, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0
	}
	return revision
}

// forwardUnary hands a call on to the node that answers it, if that is not this
// one. Calls that go to several nodes find their own way in their handlers.
func (s *Server) forwardUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (any, error) {
	if forwarded(ctx) {
		return s.answerForwarded(ctx, request, info, next)
	}
	if at, ok := namedBy(request); ok && kinds[info.FullMethod] != byController {
		if err := s.learn(ctx, at); err != nil {
			return nil, err
		}
	}
	if s.alone() || kinds[info.FullMethod] == byAnyone {
		return next(ctx, request)
	}
	if foundsGroup[info.FullMethod] {
		if err := s.needOffsetsTopic(ctx); err != nil {
			return nil, fmt.Errorf("creating %s: %w", offsetsTopic, err)
		}
	}
	sent := request.(proto.Message) //nolint:errcheck // every request of a service is one
	types, ok := messagesOf(info.FullMethod)
	if !ok {
		return next(ctx, request)
	}
	var reply any // a handler's own may be encoded already
	find := s.finder(info.FullMethod, request)
	err := s.routed(ctx, repeatable[info.FullMethod], find, func(to route) error {
		if to.node == s.cluster.NodeID() {
			answer, err := next(ctx, request)
			reply = answer
			return err
		}
		made := types.newReply()
		reply = made
		return s.send(ctx, to, info.FullMethod, sent, made)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// finder finds the node that answers a request in a snapshot.
func (s *Server) finder(method string, request any) func(*cluster.Snapshot) (route, error) {
	return func(at *cluster.Snapshot) (route, error) {
		to := s.routeOf(method, request, at)
		if to.node == cluster.NoLeader {
			return to, to.absent(method, request)
		}
		return to, nil
	}
}

// alone reports whether there is no other node that could answer anything.
func (s *Server) alone() bool {
	at := s.cluster.Snapshot()
	return at.NodeCount() <= 1 && at.Controller() == s.cluster.NodeID()
}

// routed tries a call until it comes through or must not be tried again, for
// routeTime at most: where nobody leads, where no connection comes up, and for
// calls that change nothing also where the node turns out not to be the right
// one any more.
func (s *Server) routed(
	ctx context.Context, repeat bool, find func(*cluster.Snapshot) (route, error),
	try func(route) error,
) error {
	deadline := time.NewTimer(routeTime)
	defer deadline.Stop()
	for {
		at := s.cluster.Snapshot()
		to, err := find(at)
		again := err != nil
		if err == nil {
			err = try(to)
			again = unsent(err) || repeat && moved(err)
		}
		if err == nil || !again || ctx.Err() != nil || s.isDraining() {
			return err
		}
		pause := time.NewTimer(routeRetry)
		select {
		case <-at.Changed():
		case <-pause.C:
		case <-deadline.C:
			pause.Stop()
			return err
		case <-ctx.Done():
			pause.Stop()
			return err
		}
		pause.Stop()
	}
}

// isFault reports whether an error, also one that came from another node, is of
// a row of the catalogue.
func isFault(err error, row *fault.Fault) bool {
	e := fault.From(err)
	return e != nil && e.Fault == row
}

// unsentError is an error before anything was sent.
type unsentError struct{ error }

// Unwrap returns why nothing was sent.
func (e unsentError) Unwrap() error { return e.error }

func unsent(err error) bool {
	_, ok := err.(unsentError) //nolint:errorlint // wrapped, it is another call's
	return ok
}

// moved reports whether an error says that another node is the right one, or
// that the node is gone.
func moved(err error) bool {
	switch e := fault.From(err); {
	case e == nil:
		return false
	default:
		switch e.Fault {
		case fault.NotLeaderOrFollower, fault.CoordinatorNotAvailable, fault.NotController,
			fault.BrokerNotAvailable, fault.LeaderNotAvailable:
			return true
		}
	}
	return false
}

// send makes a unary call to another node.
func (s *Server) send(
	ctx context.Context, to route, method string, request, reply proto.Message,
) error {
	bound := ctx
	if kinds[method] == byController {
		var done context.CancelFunc
		bound, done = s.whileController(ctx, to.node)
		defer done()
	}
	conn, err := s.connect(bound, to)
	if err != nil {
		return err
	}
	var trailer metadata.MD
	err = conn.Invoke(s.onward(bound, to.revision), method, request, reply, grpc.Trailer(&trailer))
	s.metrics.forwarded.WithLabelValues(method).Inc()
	if err != nil && ctx.Err() == nil && bound.Err() != nil {
		return context.Cause(bound)
	}
	if err != nil {
		return s.outOfReach(to, err)
	}
	if revision := revisionOf(trailer); revision > 0 {
		return s.reached(ctx, revision)
	}
	return nil
}

// replacedGrace is how long a controller that was replaced has to answer what it
// was asked before.
const replacedGrace = 100 * time.Millisecond

// whileController returns a context for a call to the controller, which ends with
// it: one that is paused or cut off would keep the caller for as long as it is.
func (s *Server) whileController(
	ctx context.Context, node int32,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for at := s.cluster.Snapshot(); ctx.Err() == nil; at = s.cluster.Snapshot() {
			if now := at.Controller(); now != node && now != cluster.NoLeader {
				if run.Pause(ctx, replacedGrace) == nil {
					cancel(fault.BrokerNotAvailable.Because("node %d was replaced as the "+
						"controller before it answered; it may have done what it was asked", node))
				}
				return
			}
			select {
			case <-at.Changed():
			case <-ctx.Done():
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// connect returns a connection to a node that is up. Errors are unsentErrors.
func (s *Server) connect(ctx context.Context, to route) (*grpc.ClientConn, error) {
	b, ok := brokerOf(s.cluster.Snapshot(), to.node)
	if !ok {
		return nil, unsentError{fault.BrokerNotAvailable.Because(
			"node %d, which is %s, is not there", to.node, to.as)}
	}
	conn, err := s.peers.conn(b)
	if err == nil {
		err = up(ctx, conn)
	}
	if err != nil {
		return nil, unsentError{s.outOfReach(to, err)}
	}
	return conn, nil
}

// up waits until a connection is ready, or has failed.
func up(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, peerDialTime)
	defer cancel()
	conn.Connect()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return fault.BrokerNotAvailable.Because("it cannot be reached at %s",
				strings.TrimPrefix(conn.Target(), "passthrough:///"))
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// outOfReach names the node in an error of the connection to it.
func (s *Server) outOfReach(to route, err error) error {
	st, ok := status.FromError(err)
	if ok && (st.Code() != codes.Unavailable || len(st.Details()) > 0) {
		return err
	}
	return fault.BrokerNotAvailable.Because("node %d, which is %s, is out of reach: %v", to.node,
		to.as, err)
}

// answerForwarded answers a call that another node has handed on, as soon as
// this one knows the metadata by which it did.
func (s *Server) answerForwarded(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (any, error) {
	if err := s.reachedAsked(ctx); err != nil {
		return nil, err
	}
	reply, err := next(ctx, request)
	if err == nil && kinds[info.FullMethod] == byController {
		revision := strconv.FormatInt(s.cluster.Snapshot().LastChange(), 10)
		_ = grpc.SetTrailer(ctx, metadata.Pairs(revisionHeader, revision)) // of a call that runs
	}
	return reply, s.orBehind(ctx, err)
}

// createTopic creates a topic by way of the controller, wherever that is, and
// returns when this node serves it.
func (s *Server) createTopic(ctx context.Context, spec cluster.TopicSpec) error {
	method := sluicev1.TopicService_CreateTopic_FullMethodName
	return s.routed(ctx, false, s.finder(method, nil), func(to route) error {
		if to.node == s.cluster.NodeID() {
			if _, err := s.cluster.CreateTopic(ctx, spec); err != nil {
				return err
			}
			return s.seen(ctx)
		}
		return s.send(ctx, to, method, &sluicev1.CreateTopicRequest{
			Topic: spec.Name, PartitionCount: spec.PartitionCount,
			ReplicationFactor: spec.ReplicationFactor, Configs: spec.Configs,
		}, &sluicev1.CreateTopicResponse{})
	})
}

// callerOf returns the address of whoever made a call, also where another node
// has handed it on.
func callerOf(ctx context.Context) string {
	if forwarded(ctx) {
		given := metadata.ValueFromIncomingContext(ctx, callerHeader)
		if len(given) == 1 && len(given[0]) <= callerBytesMax &&
			!strings.ContainsFunc(given[0], unfit) {
			return given[0]
		}
	}
	return peerOf(ctx)
}

// callerBytesMax is more than any address has.
const callerBytesMax = 128
