package main

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// answering is a broker that answers every call.
type answering struct{ grpc.ClientConnInterface }

func (answering) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }

func (answering) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, nil
}

func TestCallsOfTheFrontAreRefusedAndThoseOfTheBackgroundWaitForTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := newLateBroker("the node is starting")
		ctx, cancel := context.WithCancel(t.Context())
		calls := map[string]func(grpc.ClientConnInterface) error{
			"unary": func(conn grpc.ClientConnInterface) error {
				return conn.Invoke(ctx, "/m", nil, nil)
			},
			"stream": func(conn grpc.ClientConnInterface) error {
				_, err := conn.NewStream(ctx, nil, "/m")
				return err
			},
		}
		answers := make(chan error, 2*len(calls))
		for name, call := range calls {
			assert.Equal(t, codes.Unavailable, status.Code(call(late)), name)
			go func() { answers <- call(awaitedBroker{late}) }()
		}
		synctest.Wait()
		assert.Empty(t, answers, "they wait")
		late.set(&builtBroker{ClientConnInterface: answering{}})
		for range calls {
			assert.NoError(t, <-answers)
		}

		late = newLateBroker("the node is starting")
		for _, call := range calls {
			go func() { answers <- call(awaitedBroker{late}) }()
		}
		synctest.Wait()
		cancel()
		for range calls {
			assert.Equal(t, codes.Canceled, status.Code(<-answers))
		}
	})
}
