package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/grpclog"

	"github.com/sluicelog/sluice/gateway"
)

// outcry is what gRPC and grpc-gateway log as an error.
var outcry lockedBuffer

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, &outcry)) }

// goneWriter is the answer to a caller that has left.
type goneWriter struct{ *httptest.ResponseRecorder }

func (goneWriter) Write([]byte) (int, error) { return 0, errors.New("the caller has left") }

func TestACallerThatLeavesBeforeItsAnswerIsNoErrorOfTheNode(t *testing.T) {
	b := newBroker(map[string]int{"orders": 2})
	g, err := gateway.New(gateway.Config{Conn: b.channel(t), Limits: gateway.DefaultLimits()})
	require.NoError(t, err)
	for _, path := range []string{
		"/v1/topics/orders", "/v1/topics/orders/partitions/0/records", "/v1/topics/none",
	} {
		w := goneWriter{httptest.NewRecorder()}
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	}
	assert.NotContains(t, outcry.String(), "the caller has left")
}
