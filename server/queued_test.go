package server_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// poll is a fetch at the end of the log, which waits for long, and is as large as said by
// a field that nobody knows.
func poll(bytes int) *sluicev1.FetchRequest {
	const unknown = 1000
	r := &sluicev1.FetchRequest{Topic: "t", MaxWait: durationpb.New(30 * time.Second)}
	padding := protowire.AppendTag(nil, unknown, protowire.BytesType)
	r.ProtoReflect().SetUnknown(protowire.AppendBytes(padding, make([]byte, bytes)))
	return r
}

func TestRequestsWaitForThoseBeforeThemAndAreRefusedWhenTooManyWait(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{
		"queued.max.request.bytes": "1048576", "socket.request.max.bytes": "1048576",
	}))
	f.create("t", 1)
	log := sluicev1.NewLogServiceClient(f.Dial())
	ask := func(bytes int) (leave context.CancelFunc, outcome chan error) {
		ctx, cancel := context.WithCancel(t.Context())
		outcome = make(chan error, 1)
		go func() {
			_, err := log.Fetch(ctx, poll(bytes))
			outcome <- err
		}()
		return cancel, outcome
	}
	is := func(name string, bytes float64) {
		t.Helper()
		f.comes(name, func() bool { return int(held(t, f.Node, name))>>10 == int(bytes)>>10 })
	}
	leave, first := ask(700 << 10)
	is("sluice_request_bytes_held", 700<<10)
	leaveToo, second := ask(600 << 10)
	is("sluice_request_bytes_waiting", 600<<10)
	assert.InDelta(t, 700<<10, held(t, f.Node, "sluice_request_bytes_held"), 1<<10)

	_, third := ask(500 << 10)
	e := refused(t, <-third, fault.ThrottlingQuotaExceeded, "1048576", "queued.max.request.bytes")
	assert.True(t, e.Retriable)
	select {
	case err := <-second:
		t.Fatalf("it was to wait: %v", err)
	default:
	}

	leave()
	require.Error(t, <-first)
	is("sluice_request_bytes_waiting", 0)
	is("sluice_request_bytes_held", 600<<10)
	f.produce("t", 0, "a")
	require.NoError(t, <-second, "it was let in, and answered")
	leaveToo()
	is("sluice_request_bytes_held", 0)
}
