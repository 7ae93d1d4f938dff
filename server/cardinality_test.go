package server_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	"github.com/sluicelog/sluice/tests/node"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// What callers make up (names of methods, topics and groups, ids of their own)
// becomes no label: the metrics do not grow by it.
func TestMadeUpNamesAreNoLabels(t *testing.T) {
	n := node.Start(t)
	conn := n.Dial()
	records, groups := sluicev1.NewLogServiceClient(conn), sluicev1.NewGroupServiceClient(conn)
	call := func(name string) {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "user-agent", name,
			"x-request-id", name, "client-id", name)
		_, err := records.Produce(ctx, &sluicev1.ProduceRequest{
			Topic: name, Records: []*sluicev1.ProduceRecord{{Value: []byte("x")}},
		})
		assert.Error(t, err)
		_, err = records.Fetch(ctx, &sluicev1.FetchRequest{Topic: name})
		assert.Error(t, err)
		_, err = groups.FetchOffsets(ctx, &sluicev1.FetchOffsetsRequest{Group: name})
		assert.NoError(t, err)
		for _, method := range []string{"/" + name + "/Get", "/sluice.v1.LogService/" + name} {
			answer := &sluicev1.FetchResponse{}
			assert.Error(t, conn.Invoke(ctx, method, &sluicev1.FetchRequest{}, answer))
		}
	}
	series := func() (count int) {
		families, err := n.Server.Metrics().Gather()
		require.NoError(t, err)
		for _, family := range families {
			count += len(family.GetMetric())
		}
		return count
	}
	call("first")
	before := series()
	for i := range 200 {
		call(fmt.Sprintf("made-up-%d", i))
	}
	assert.LessOrEqual(t, series(), before+10, "codes of calls that were new, and no names")
}
