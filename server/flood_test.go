package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/http2/hpack"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/flood"
	"github.com/sluicelog/sluice/tests/node"
)

// Whatever one connection sends, the node stays up, holds little for it, and
// serves others meanwhile.
func TestFloodsOfFramesHarmNobody(t *testing.T) {
	n := node.Start(t)
	topics := sluicev1.NewTopicServiceClient(n.Dial())
	flood.Run(t, n.Address(), []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: sluicev1.TopicService_ListTopics_FullMethodName},
		{Name: ":authority", Value: "x"},
		{Name: "te", Value: "trailers"},
		{Name: "content-type", Value: "application/grpc"},
	}, true, func() {
		_, err := topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{})
		assert.NoError(t, err)
	})
}
