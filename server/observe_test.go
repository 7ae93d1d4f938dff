package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// bare is a server with nothing but what the interceptors need.
func bare(log *bytes.Buffer) *Server {
	cfg := DefaultConfig()
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := &Server{
		cfg: cfg, metrics: newMetrics(2), requests: budget.New(1 << 20),
		answers: budget.New(1 << 20),
	}
	s.calls = limiter{setting: "request.max.inflight", max: 2}
	s.waits = limiter{setting: "request.max.waiting", max: 3}
	s.streams.max = 1
	return s
}

// run calls a handler through the unary interceptors.
func (s *Server) run(ctx context.Context, handler grpc.UnaryHandler) (any, error) {
	return s.runOn(ctx, nil, handler)
}

// runOn is run with a request.
func (s *Server) runOn(ctx context.Context, request any, handler grpc.UnaryHandler) (any, error) {
	all := s.UnaryInterceptors()
	info := &grpc.UnaryServerInfo{FullMethod: "/sluice.v1.LogService/Fetch"}
	return all[0](ctx, request, info, func(ctx context.Context, request any) (any, error) {
		return all[1](ctx, request, info, handler)
	})
}

func TestAPanicIsAnInternalErrorWithARequestID(t *testing.T) {
	var log bytes.Buffer
	s := bare(&log)
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", "mine-1"))
	_, err := s.run(ctx, func(context.Context, any) (any, error) { panic("secret") })
	st := status.Convert(err)
	assert.Equal(t, codes.Internal, st.Code())
	assert.NotContains(t, st.Message(), "secret")
	named := false
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RequestInfo); ok {
			named = info.GetRequestId() == "mine-1"
		}
	}
	assert.True(t, named, "the request id leads to the log")
	assert.Contains(t, log.String(), "secret")
	assert.Contains(t, log.String(), "mine-1")
	assert.Zero(t, s.calls.running.Load())
	_, err = s.run(ctx, func(context.Context, any) (any, error) { return "fine", nil })
	require.NoError(t, err)
}

func TestErrorsAreTranslatedOnceAndLoggedByWhoseTheyAre(t *testing.T) {
	tests := map[string]struct {
		err   error
		want  *fault.Fault
		level string
	}{
		"the caller's": {
			fmt.Errorf("x: %w", fault.InvalidTopic.With("topic", "t")), fault.InvalidTopic, "DEBUG",
		},
		"ours":   {errors.New("open /secret: no"), fault.UnknownServerError, "WARN"},
		"damage": {fault.CorruptLog.With(), fault.CorruptLog, "WARN"},
		"closed": {fmt.Errorf("x: %w", storage.ErrClosed), fault.BrokerNotAvailable, "WARN"},
		"gone":   {fmt.Errorf("x: %w", context.Canceled), fault.Cancelled, "DEBUG"},
		"too long": {
			fmt.Errorf("x: %w", context.DeadlineExceeded), fault.RequestTimedOut, "DEBUG",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := bare(&log)
			_, err := s.run(t.Context(), func(context.Context, any) (any, error) {
				return nil, test.err
			})
			assert.Same(t, test.want, fault.From(err).Fault)
			assert.Equal(t, test.want.Code, status.Code(err))
			assert.NotContains(t, err.Error(), "secret")
			assert.Contains(t, log.String(), "level="+test.level)
			assert.Contains(t, log.String(), "method=/sluice.v1.LogService/Fetch")
			assert.Equal(t, 1, strings.Count(log.String(), "\n"))
		})
	}
}

func TestACallerThatGoesAwayIsNotLoggedAsOurFailure(t *testing.T) {
	closing := status.Error(codes.Unavailable, "transport is closing")
	tests := map[string]struct {
		err   error
		gone  bool
		want  codes.Code
		level string
	}{
		"the connection closed": {closing, true, codes.Canceled, "DEBUG"},
		"wrapped":               {fmt.Errorf("x: %w", closing), true, codes.Canceled, "DEBUG"},
		"our own, though it went": {
			fault.CorruptLog.With(), true, fault.CorruptLog.Code, "WARN",
		},
		"a panic, though it went": {
			fault.UnknownServerError.With(), true, codes.Internal, "WARN",
		},
		"it is still there": {closing, false, codes.Unavailable, "WARN"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := bare(&log)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.run(ctx, func(context.Context, any) (any, error) {
				if test.gone {
					cancel()
				}
				return nil, test.err
			})
			assert.Equal(t, test.want, status.Code(err))
			assert.Contains(t, log.String(), "level="+test.level)
		})
	}
}

func TestCallsThatAStopEndsAreNoWarning(t *testing.T) {
	for _, test := range []struct {
		err   error
		level string
	}{
		{fault.BrokerNotAvailable.Because("the node is stopping"), "DEBUG"},
		{fault.CorruptLog.With(), "WARN"},
	} {
		var log bytes.Buffer
		s := bare(&log)
		s.draining = make(chan struct{})
		close(s.draining)
		_, err := s.run(t.Context(), func(context.Context, any) (any, error) {
			return nil, test.err
		})
		assert.ErrorIs(t, fault.From(err), func() *fault.Error {
			target := &fault.Error{}
			_ = errors.As(test.err, &target)
			return target
		}().Fault)
		assert.Contains(t, log.String(), "level="+test.level)
	}
}

func TestARequestIDThatIsUnfitIsReplaced(t *testing.T) {
	for _, id := range []string{"", "a b", "a\nlevel=ERROR", strings.Repeat("x", 65), `"`, "é"} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", id))
		got := requestID(ctx)
		assert.Regexp(t, "^[0-9a-f]{16}$", got)
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", "trace-7"))
	assert.Equal(t, "trace-7", requestID(ctx))
	first, second := requestID(t.Context()), requestID(t.Context())
	assert.NotEqual(t, first, second)
}

func TestRequestsBeyondTheLimitAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := bare(&log)
		release := make(chan struct{})
		var waiting sync.WaitGroup
		for range 2 {
			waiting.Go(func() {
				_, err := s.run(t.Context(), func(context.Context, any) (any, error) {
					<-release
					return "done", nil
				})
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		for range 3 { // and a refused one takes no place
			_, err := s.run(t.Context(), func(context.Context, any) (any, error) {
				t.Error("the handler was called")
				return nil, nil
			})
			assert.Same(t, fault.ThrottlingQuotaExceeded, fault.From(err).Fault)
			assert.Contains(t, err.Error(), "request.max.inflight")
		}
		close(release)
		waiting.Wait()
		_, err := s.run(t.Context(), func(context.Context, any) (any, error) { return 1, nil })
		assert.NoError(t, err)
	})
}

// Calls that wait are bounded too, and take no place of those that are worked on.
func TestCallsThatWaitAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := bare(&log)
		s.static.GRPCRequestBytesMax = 1 << 10
		release := make(chan struct{})
		var waiting sync.WaitGroup
		beat := &sluicev1.ConsumerHeartbeatRequest{MaxWait: durationpb.New(time.Second)}
		fetch := &sluicev1.FetchRequest{MaxWait: durationpb.New(time.Second)}
		for _, request := range []any{beat, beat, fetch} {
			waiting.Go(func() {
				_, err := s.runOn(t.Context(), request, func(context.Context, any) (any, error) {
					<-release
					return "done", nil
				})
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		fine := func(context.Context, any) (any, error) { return 1, nil }
		_, err := s.runOn(t.Context(), fetch, fine)
		assert.Same(t, fault.ThrottlingQuotaExceeded, fault.From(err).Fault)
		assert.Contains(t, err.Error(), "3 of request.max.waiting")
		for _, request := range []any{
			nil, &sluicev1.FetchRequest{},
			&sluicev1.ConsumerHeartbeatRequest{MaxWait: durationpb.New(0)},
		} {
			_, err = s.runOn(t.Context(), request, fine)
			assert.NoError(t, err)
		}
		close(release)
		waiting.Wait()
		_, err = s.runOn(t.Context(), fetch, fine)
		assert.NoError(t, err)
	})
}

func TestMetricsAreCountedWithABoundedSetOfTopics(t *testing.T) {
	var log bytes.Buffer
	s := bare(&log)
	_, _ = s.run(t.Context(), func(context.Context, any) (any, error) { return 1, nil })
	_, _ = s.run(t.Context(), func(context.Context, any) (any, error) {
		return nil, fault.InvalidTopic.With()
	})
	for _, name := range []string{"a", "b", "c", "d"} {
		s.metrics.topic(name).bytesIn.Add(10)
	}
	text := gathered(t, s.Metrics())
	const method = `method="/sluice.v1.LogService/Fetch"`
	assert.Contains(t, text, `sluice_requests_total{code="OK",`+method+`} 1`)
	assert.Contains(t, text, `sluice_requests_total{code="InvalidArgument",`+method+`} 1`)
	assert.Contains(t, text, `sluice_topic_bytes_in_total{topic="a"} 10`)
	assert.Contains(t, text, `sluice_topic_bytes_in_total{topic="(other)"} 20`)
	assert.NotContains(t, text, `topic="c"`)

	s.metrics.keep(map[string]*topic{"b": {}})
	s.metrics.topic("c").bytesIn.Add(5)
	text = gathered(t, s.Metrics())
	assert.NotContains(t, text, `topic="a"`)
	assert.Contains(t, text, `sluice_topic_bytes_in_total{topic="c"} 5`)
}

// gathered writes metrics as a scrape shows them.
func gathered(t *testing.T, from prometheus.Gatherer) string {
	families, err := from.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetCounter() == nil {
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&text, "%s{%s} %v\n", family.GetName(), strings.Join(labels, ","),
				m.GetCounter().GetValue())
		}
	}
	return text.String()
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	reserved := int64(0)
	ids := newProducerIDs(func(context.Context) (int64, int64, error) {
		if reserved == 30 {
			return 0, 0, fault.NotController.With()
		}
		reserved += 10
		return reserved - 10, 10, nil
	})
	var mu sync.Mutex
	seen := map[int64]bool{}
	var taking sync.WaitGroup
	for range 6 {
		taking.Go(func() {
			for range 5 {
				id, err := ids.take(t.Context())
				assert.NoError(t, err)
				mu.Lock()
				assert.False(t, seen[id], id)
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	taking.Wait()
	assert.Len(t, seen, 30)
	_, err := ids.take(t.Context())
	assert.ErrorIs(t, err, fault.NotController)
}

// TestOnePartitionMayFailAlone: "error: why the record was not written. Set
// only where other partitions of the request were written".
func TestOnePartitionMayFailAlone(t *testing.T) {
	p := &production{
		topic: &topic{}, request: threeRecords(), now: 7, written: make(chan struct{}),
		timeout: time.Minute,
	}
	p.topic.Name = "t"
	p.parts = []part{
		{partition: 4, records: []int{0, 2}, appended: storage.Appended{BaseOffset: 10}},
		{partition: 5, records: []int{1}, err: fault.StorageFull.With("free_bytes", 1)},
	}
	close(p.written)
	response, err := p.answer(t.Context())
	require.NoError(t, err)
	results := response.GetResults()
	assert.EqualValues(t, 10, results[0].GetOffset())
	assert.EqualValues(t, 11, results[2].GetOffset())
	assert.EqualValues(t, 5, results[1].GetPartition())
	assert.Nil(t, results[1].Offset)
	assert.Nil(t, results[1].GetTimestamp())
	assert.EqualValues(t, codes.ResourceExhausted, results[1].GetError().GetCode())
	assert.Len(t, results[1].GetError().GetDetails(), 1)

	p.parts[0].err = fault.StorageError.With()
	_, err = p.answer(t.Context())
	assert.Error(t, err, "nothing was written")
}

func TestConfigsThatCannotBe(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Logger = nil },
		func(c *Config) { c.Clock = nil },
		func(c *Config) { c.TopicLabelCountMax = 0 },
		func(c *Config) { c.TopicLabelCountMax = 1e9 },
	} {
		cfg := DefaultConfig()
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.Error(t, cfg.Validate())
	}
}

func threeRecords() *sluicev1.ProduceRequest {
	return &sluicev1.ProduceRequest{Records: []*sluicev1.ProduceRecord{{}, {}, {}}}
}
