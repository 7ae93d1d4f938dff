package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a node with clients.
type fixture struct {
	*testing.T
	*node.Node
	log     sluicev1.LogServiceClient
	topics  sluicev1.TopicServiceClient
	groups  sluicev1.GroupServiceClient
	configs sluicev1.ConfigServiceClient
	cluster sluicev1.ClusterServiceClient
	txn     sluicev1.TransactionServiceClient
}

// begin starts a node and calls it through the in-process channel.
func begin(t *testing.T, opts ...node.Option) *fixture {
	t.Helper()
	n := node.Start(t, opts...)
	return fixtureOf(t, n, n.Conn())
}

func fixtureOf(t *testing.T, n *node.Node, conn grpc.ClientConnInterface) *fixture {
	return &fixture{
		T: t, Node: n,
		log:     sluicev1.NewLogServiceClient(conn),
		topics:  sluicev1.NewTopicServiceClient(conn),
		groups:  sluicev1.NewGroupServiceClient(conn),
		configs: sluicev1.NewConfigServiceClient(conn),
		cluster: sluicev1.NewClusterServiceClient(conn),
		txn:     sluicev1.NewTransactionServiceClient(conn),
	}
}

// ways runs a test over both ways to call a node.
func ways(t *testing.T, test func(f *fixture)) {
	n := node.Start(t)
	for name, conn := range map[string]grpc.ClientConnInterface{
		"inproc": n.Conn(), "bufconn": n.Dial(),
	} {
		t.Run(name, func(t *testing.T) {
			test(fixtureOf(t, n, conn))
		})
	}
}

// create makes a topic of the test's name with settings given as name, value.
func (f *fixture) create(name string, partitions int32, configs ...string) *sluicev1.Topic {
	f.Helper()
	set := map[string]string{}
	for i := 0; i < len(configs); i += 2 {
		set[configs[i]] = configs[i+1]
	}
	r, err := f.topics.CreateTopic(f.Context(), &sluicev1.CreateTopicRequest{
		Topic: name, PartitionCount: partitions, Configs: set,
	})
	require.NoError(f, err)
	return r.GetTopic()
}

// produce writes values to a partition.
func (f *fixture) produce(topic string, partition int32, values ...string) {
	f.Helper()
	r := &sluicev1.ProduceRequest{Topic: topic, Partition: &partition}
	for _, v := range values {
		r.Records = append(r.Records, &sluicev1.ProduceRecord{Value: []byte(v)})
	}
	_, err := f.log.Produce(f.Context(), r)
	require.NoError(f, err)
}

// values reads the values of a partition from an offset to its end.
func (f *fixture) values(topic string, partition int32) []string {
	f.Helper()
	var values []string
	next := int64(0)
	for {
		r, err := f.log.Fetch(f.Context(), &sluicev1.FetchRequest{
			Topic: topic, Partition: partition, Offset: next,
		})
		require.NoError(f, err)
		if len(r.GetRecords()) == 0 {
			return values
		}
		for _, record := range r.GetRecords() {
			values = append(values, string(record.GetValue()))
		}
		next = r.GetNextOffset()
	}
}

// ends returns the end offset of each partition of a topic.
func (f *fixture) ends(topic string) []storage.Offset {
	f.Helper()
	t, ok := f.Cluster.Topic(topic)
	require.True(f, ok)
	var ends []storage.Offset
	for _, p := range t.Partitions {
		log, ok := f.Store.Partition(storage.PartitionID{
			Topic: storage.TopicID(t.ID), Partition: p.ID,
		})
		require.True(f, ok)
		ends = append(ends, log.End())
	}
	return ends
}

// partition returns the store's log of a partition.
func (f *fixture) partition(topic string, partition int32) *storage.Partition {
	f.Helper()
	t, ok := f.Cluster.Topic(topic)
	require.True(f, ok)
	log, ok := f.Store.Partition(storage.PartitionID{
		Topic: storage.TopicID(t.ID), Partition: partition,
	})
	require.True(f, ok)
	return log
}

// refused checks that err is of a row of the catalogue, and that it says so to
// any gRPC client.
func refused(t testing.TB, err error, want *fault.Fault, inMessage ...string) *fault.Error {
	t.Helper()
	require.Error(t, err)
	got := fault.From(err)
	require.Equal(t, want.Reason, got.Reason, "%v", err)
	require.Same(t, want, got.Fault, "%v", err)
	st := status.Convert(err)
	assert.Equal(t, want.Code, st.Code())
	infos := 0
	for _, detail := range st.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			infos++
		}
	}
	assert.Equal(t, 1, infos)
	for _, text := range inMessage {
		assert.Contains(t, st.Message(), text)
	}
	return got
}

// soon is a context for what must happen soon, on a machine that is busy.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// encoded makes a batch of records with values, as a client does.
func encoded(t testing.TB, o batch.EncodeOptions, values ...string) []byte {
	t.Helper()
	var records []batch.Record
	for i, v := range values {
		records = append(records, batch.Record{Timestamp: 1000 + int64(i), Value: []byte(v)})
	}
	b, err := batch.Encode(nil, records, o)
	require.NoError(t, err)
	return b
}
