package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

func TestTheExampleConsumesInAGroup(t *testing.T) {
	n := node.Start(t)
	_, err := sluicev1.NewTopicServiceClient(n.Conn()).CreateTopic(t.Context(),
		&sluicev1.CreateTopicRequest{Topic: "flights", PartitionCount: 1})
	require.NoError(t, err)
	_, err = sluicev1.NewLogServiceClient(n.Conn()).Produce(t.Context(),
		&sluicev1.ProduceRequest{Topic: "flights", Records: []*sluicev1.ProduceRecord{
			{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")},
		}})
	require.NoError(t, err)
	for i, want := range []string{
		"reading flights-0 from offset 0\nread 2 records\n",
		"reading flights-0 from offset 2\nread 1 records\n",
	} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), &out, n.Address(), "counters", "flights", 2-i))
		assert.Equal(t, want, out.String())
	}
	require.Error(t, run(t.Context(), &bytes.Buffer{}, n.Address(), "", "flights", 1))
}
