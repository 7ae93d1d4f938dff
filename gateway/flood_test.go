package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/net/http2/hpack"

	"github.com/sluicelog/sluice/tests/flood"
)

// Whatever one connection sends over HTTP/2, others are served meanwhile.
func TestFloodsOfFramesHarmNobody(t *testing.T) {
	s := serve(t, nil)
	flood.Run(t, s.address, []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/topics"},
		{Name: ":authority", Value: "x"},
	}, false, func() {
		answer, err := http.Get(s.url + "/topics")
		if assert.NoError(t, err) {
			assert.Equal(t, http.StatusOK, answer.StatusCode)
			assert.NoError(t, answer.Body.Close())
		}
	})
}
