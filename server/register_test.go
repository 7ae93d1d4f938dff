package server_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

func TestHealthAndReflectionAreServed(t *testing.T) {
	ways(t, func(f *fixture) {
		conn := f.Conn()
		if strings.HasSuffix(f.Name(), "bufconn") {
			conn = f.Dial()
		}
		health := healthpb.NewHealthClient(conn)
		for _, service := range []string{"", "sluice.v1.LogService"} {
			r, err := health.Check(f.Context(), &healthpb.HealthCheckRequest{Service: service})
			require.NoError(f, err)
			assert.Equal(f, healthpb.HealthCheckResponse_SERVING, r.GetStatus())
		}
		stream, err := reflectionpb.NewServerReflectionClient(conn).
			ServerReflectionInfo(f.Context())
		require.NoError(f, err)
		require.NoError(f, stream.Send(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		}))
		r, err := stream.Recv()
		require.NoError(f, err)
		var names []string
		for _, s := range r.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		assert.Subset(f, names, []string{
			"sluice.v1.LogService", "sluice.v1.TopicService", "sluice.v1.GroupService",
			"sluice.v1.ConfigService", "sluice.v1.ClusterService",
			"sluice.v1.TransactionService", "grpc.health.v1.Health",
		})
		require.NoError(f, stream.CloseSend())
		for err == nil {
			_, err = stream.Recv()
		}
	})
}

func TestAnswersCarryTheRequestID(t *testing.T) {
	ways(t, func(f *fixture) {
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(f.Context(), "x-request-id", "mine")
		_, err := f.cluster.GetCluster(ctx, &sluicev1.GetClusterRequest{}, grpc.Header(&header))
		require.NoError(f, err)
		assert.Equal(f, []string{"mine"}, header.Get("x-request-id"))
	})
}

func TestRequestsThatAreTooLargeAreRefused(t *testing.T) {
	n := node.Start(t, node.WithSettings(map[string]string{
		"socket.request.max.bytes": "100000",
	}))
	for _, conn := range []grpc.ClientConnInterface{n.Conn(), n.Dial()} {
		f := fixtureOf(t, n, conn)
		_, err := f.log.Produce(t.Context(), records(&sluicev1.ProduceRecord{
			Value: make([]byte, 100_001),
		}))
		assert.Equal(t, codes.ResourceExhausted, status.Code(err))
		e := fault.From(err)
		assert.Same(t, fault.RequestTooLarge, e.Fault)
		if conn != n.Conn() {
			assert.Equal(t, "socket.request.max.bytes", e.Value("setting"))
		}
	}
}

func TestTheNodeCountsWhatItDoes(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	f.produce("t", 0, numbered(10)...)
	f.values("t", 0)
	families, err := f.Server.Metrics().Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			key := family.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			values[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	assert.InDelta(t, 1, values["sluice_requests_total OK /sluice.v1.LogService/Produce"], 0)
	assert.InDelta(t, 1, values["sluice_request_duration_seconds "+
		"/sluice.v1.LogService/Produce"], 0)
	assert.InDelta(t, 2, values["sluice_partitions"], 0)
	assert.InDelta(t, 2, values["sluice_partitions_led"], 0)
	assert.Greater(t, values["sluice_topic_bytes_in_total t"], 100.0)
	assert.Greater(t, values["sluice_topic_bytes_out_total t"], 100.0)
	assert.Contains(t, values, "go_goroutines")

	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	named := regexp.MustCompile("(?m)^\\| `(sluice_[a-z_]+)`").FindAllSubmatch(page, -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		metric := string(name[1])
		if !strings.HasSuffix(metric, "_total") { // nothing is forwarded here
			assert.Contains(t, values, metric, "which the operations page has")
		}
	}
}
