// Package server is a broker: it serves the RPCs of sluice.v1 from the node's
// store and the cluster's metadata.
//
// New gives a Server, Start opens the partitions that the node keeps, and
// Register adds the services to anything that takes gRPC services: a
// grpc.Server made with GRPCOptions, or an inproc.Channel with the interceptors.
package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/internal/setting"
	"github.com/sluicelog/sluice/internal/wire"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/server/schema"
	"github.com/sluicelog/sluice/storage"
)

// Server serves the RPCs of one node. All methods may be called concurrently.
// The caller keeps the cluster and the store, and closes them after the Server.
type Server struct {
	cfg      Config
	store    *storage.Store
	cluster  *cluster.Cluster
	replicas *replica.Replicas
	groups   *group.Coordinator
	schemas  *schema.Checker // nil: there is no registry
	metrics  *metrics
	health   *health.Server
	tasks    *run.Group
	started  atomic.Bool

	static    setting.Broker // as they were at the start
	catalog   atomic.Pointer[catalog]
	calls     limiter        // unary calls that are worked on
	waits     limiter        // unary calls that may wait, besides those
	streams   limiter        // streams that are open
	requests  *budget.Budget // bytes of requests that are worked on
	queued    atomic.Int64   // bytes of requests that wait for that
	answers   *budget.Budget // bytes of records that are not yet with callers
	stalls    *stalls
	producers producerIDs
	receivers sync.WaitGroup // of produce streams, and of streams to other nodes
	peers     *peers

	draining  chan struct{} // closed by Drain
	drainOnce sync.Once
}

// New returns a server that does nothing yet. The caller must Close it.
func New(cfg Config, store *storage.Store, c *cluster.Cluster) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		store:    store,
		cluster:  c,
		metrics:  newMetrics(cfg.TopicLabelCountMax),
		health:   health.NewServer(),
		static:   c.BrokerSettings(),
		tasks:    run.New(context.Background(), "server"),
		draining: make(chan struct{}),
		peers:    newPeers(cfg.PeerOptions),
	}
	var err error
	if cfg.Schemas != nil {
		if s.schemas, err = schema.New(cfg.Schemas, schema.DefaultConfig()); err != nil {
			return nil, err
		}
	}
	const inFlight = "request.max.inflight"
	s.calls = limiter{setting: inFlight, max: int64(s.static.RequestInFlightMax)}
	s.streams = limiter{setting: inFlight, max: int64(s.static.RequestInFlightMax)}
	s.waits = limiter{setting: "request.max.waiting", max: int64(s.static.RequestWaitingMax)}
	s.requests = budget.New(s.static.QueuedRequestBytesMax)
	s.answers = budget.New(s.static.ResponseInFlightBytesMax)
	s.stalls = newStalls(s.answers, s.static.ResponseStalledMax, cfg.Logger)
	s.metrics.registry.MustRegister(s.stalls.closed)
	s.replicas, err = replica.New(replica.Config{
		Cluster: c, Dial: s.peers.stream, Dir: store.Dir(),
		LagMax: s.static.ReplicaLagMax, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.producers = newProducerIDs(c.AllocateProducerIDs)
	s.catalog.Store(&catalog{next: make(chan struct{})})
	s.groups = s.newGroups()
	s.setHealth(healthpb.HealthCheckResponse_NOT_SERVING)
	s.clusterGauges()
	s.metrics.gauge("sluice_requests_running", "Unary calls that are worked on.",
		s.calls.running.Load)
	s.metrics.gauge("sluice_requests_waiting",
		"Unary calls that wait for records or for news of a group.", s.waits.running.Load)
	s.metrics.gauge("sluice_streams_open", "Streams that are open.", s.streams.running.Load)
	s.metrics.gauge("sluice_request_bytes_held", "Bytes of requests that are worked on.",
		s.requests.Held)
	s.metrics.gauge("sluice_request_bytes_waiting",
		"Bytes of requests that wait until fewer are worked on.", s.queued.Load)
	s.metrics.gauge("sluice_response_bytes_held",
		"Bytes of records in answers that callers have not taken yet.", s.answers.Held)
	s.metrics.gauge("sluice_responses_waiting",
		"Fetches and streams that wait for response.max.inflight.bytes.",
		func() int64 { return int64(s.answers.Waiting()) })
	s.metrics.gauge("sluice_compactions_running", "Partitions that are compacted now.",
		func() int64 { return int64(store.Compacting()) })
	s.metrics.gauge("sluice_retention_clock_jump_seconds",
		"How far the wall clock is ahead, where it is further than allowed and nothing is "+
			"removed by time.",
		func() int64 { return int64(store.ClockJump() / time.Second) })
	s.metrics.replicas(s.replicas)
	s.metrics.gauge("sluice_partitions", "Partitions that the node keeps.",
		func() int64 { return int64(len(store.Partitions())) })
	return s, nil
}

// Start opens every partition that the cluster gives the node and returns when
// all of them can be read and written; it follows the metadata until Close. The
// context bounds the start only.
func (s *Server) Start(ctx context.Context) error {
	// The cluster has admitted the node with what the store said about its
	// records: the next start judges afresh (S5).
	if err := s.store.Settle(); err != nil {
		return errors.Join(err, s.Close())
	}
	s.groups.Start(s.tasks)
	if err := s.open(ctx, s.cluster.Snapshot()); err != nil {
		return errors.Join(fmt.Errorf("opening the partitions of the node: %w", err), s.Close())
	}
	s.tasks.Go("follow the metadata", s.follow)
	s.tasks.Go("look for answers that nobody reads", s.stalls.run)
	s.started.Store(true)
	s.setHealth(healthpb.HealthCheckResponse_SERVING)
	return nil
}

// setHealth sets the status of the node as a whole and of each service.
func (s *Server) setHealth(status healthpb.HealthCheckResponse_ServingStatus) {
	for _, service := range []string{
		"", sluicev1.LogService_ServiceDesc.ServiceName,
		sluicev1.TopicService_ServiceDesc.ServiceName,
		sluicev1.GroupService_ServiceDesc.ServiceName,
		sluicev1.TransactionService_ServiceDesc.ServiceName,
		sluicev1.ClusterService_ServiceDesc.ServiceName,
		sluicev1.ConfigService_ServiceDesc.ServiceName,
	} {
		s.health.SetServingStatus(service, status)
	}
}

// Register adds all services, health, and, where r can be asked what it serves,
// reflection.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	asked, reflects := r.(reflection.GRPCServer)
	if _, outside := r.(*grpc.Server); outside {
		r = readers{r, s}
	}
	sluicev1.RegisterLogServiceServer(r, &logService{s: s})
	sluicev1.RegisterTopicServiceServer(r, &topicService{s: s})
	sluicev1.RegisterGroupServiceServer(r, &groupService{s: s})
	sluicev1.RegisterTransactionServiceServer(r, &transactionService{s: s})
	sluicev1.RegisterClusterServiceServer(r, &clusterService{s: s})
	sluicev1.RegisterConfigServiceServer(r, &configService{s: s})
	replicav1.RegisterReplicaServiceServer(r, s.replicas)
	healthpb.RegisterHealthServer(r, s.health)
	if reflects {
		reflection.Register(asked)
	}
}

// UnaryInterceptors returns what must run around every unary call, the first
// one outermost.
func (s *Server) UnaryInterceptors() []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{s.observeUnary, s.limitUnary, s.forwardUnary}
}

// StreamInterceptors returns what must run around every stream, the first one
// outermost.
func (s *Server) StreamInterceptors() []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{s.observeStream, s.limitStream, s.forwardStream}
}

// The bounds of a connection that no setting changes.
const (
	responseMaxBytes      = 64 << 20
	connectionStreamsMax  = 256
	headerListMaxBytes    = 16 << 10
	requestSlackBytes     = 4 << 20
	handshakeTimeout      = 10 * time.Second
	pingIntervalMin       = 10 * time.Second
	pingAfter             = 30 * time.Second
	pingTimeout           = 10 * time.Second
	connectionIdleTimeMax = 15 * time.Minute
)

// How much a caller may send before the node has taken it in: on a stream, and on a
// connection. With gRPC's own 64 KiB, and the pings by which it finds out how much more
// there could be, a batch of 100 KiB takes twice as many system calls. They do not grow,
// as gRPC's own would, to 16 MiB.
const (
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 4 << 20
)

// GRPCOptions returns the options of a grpc.Server for this node: the
// interceptors, and a bound on everything that a connection may ask for.
func (s *Server) GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(append(s.UnaryInterceptors(), s.outboxUnary)...),
		grpc.ChainStreamInterceptor(s.readStream),
		grpc.ChainStreamInterceptor(append(s.StreamInterceptors(), s.outboxStream)...),
		grpc.Creds(connections{insecure.NewCredentials()}),
		grpc.ForceServerCodecV2(newAnswers()),
		// Within the slack the codec refuses a request, which says more than gRPC's own
		// refusal: that one carries no details.
		grpc.MaxRecvMsgSize(min(s.RequestMaxBytes()+requestSlackBytes, math.MaxInt32)),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.MaxSendMsgSize(responseMaxBytes),
		grpc.ReadBufferSize(wire.SocketBufferBytes),
		grpc.StaticStreamWindowSize(streamWindowBytes),
		grpc.StaticConnWindowSize(connectionWindowBytes),
		grpc.MaxConcurrentStreams(connectionStreamsMax),
		grpc.MaxHeaderListSize(headerListMaxBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: pingIntervalMin, PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: connectionIdleTimeMax, Time: pingAfter, Timeout: pingTimeout,
		}),
		grpc.WaitForHandlers(true),
	}
}

// RequestMaxBytes is the largest request message that the node takes
// (socket.request.max.bytes).
func (s *Server) RequestMaxBytes() int { return min(s.static.GRPCRequestBytesMax, math.MaxInt32) }

// ResponseMaxBytes is the largest response message that the node sends.
func (s *Server) ResponseMaxBytes() int { return responseMaxBytes }

// Metrics returns the node's metrics.
func (s *Server) Metrics() prometheus.Gatherer { return s.metrics.registry }

// Ready returns why the node cannot serve, or nil.
func (s *Server) Ready() error {
	if !s.started.Load() {
		return fault.BrokerNotAvailable.Because("the node is starting")
	}
	if s.isDraining() {
		return fault.BrokerNotAvailable.Because("the node is stopping")
	}
	own, alive := s.cluster.Snapshot().Broker(s.cluster.NodeID())
	if alive && own.State == cluster.BrokerDraining {
		return fault.BrokerNotAvailable.Because("the node is stopping")
	}
	for _, err := range []error{s.store.Err(), s.cluster.Err(), s.tasks.Err()} {
		if err != nil {
			return err
		}
	}
	if s.cluster.Fenced() {
		return fault.BrokerNotAvailable.Because("the node has lost its place in the cluster")
	}
	return nil
}

// Drain makes the node not ready and ends what waits: long polls are answered
// with what there is, and streams end with BROKER_NOT_AVAILABLE. Other calls go
// on being served, so that those on the way are answered.
func (s *Server) Drain() {
	s.drainOnce.Do(func() {
		s.health.Shutdown()
		close(s.draining)
		s.replicas.Drain()
	})
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Close drains and stops what the server does by itself. End all calls before:
// stop the grpc.Server, close the inproc.Channel.
func (s *Server) Close() error {
	s.Drain()
	s.receivers.Wait()
	return errors.Join(s.tasks.Close(), s.replicas.Close(), s.peers.close())
}
