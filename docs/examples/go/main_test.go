package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

func TestTheExampleWritesAndReads(t *testing.T) {
	n := node.Start(t)
	var out bytes.Buffer
	require.Error(t, writeAndRead(t.Context(), &out, n.Address(), "flights"), "no such topic")
	_, err := sluicev1.NewTopicServiceClient(n.Conn()).CreateTopic(t.Context(),
		&sluicev1.CreateTopicRequest{Topic: "flights", PartitionCount: 1})
	require.NoError(t, err)
	require.NoError(t, writeAndRead(t.Context(), &out, n.Address(), "flights"))
	assert.Equal(t, "wrote flights-0 at offset 0\n"+
		`read offset 0: SFO = {"origin":"SFO","destination":"JFK"}`+"\n", out.String())
}
