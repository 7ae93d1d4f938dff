package main

import (
	"google.golang.org/grpc/experimental"

	"github.com/sluicelog/sluice/internal/wire"
)

// init gives gRPC, which takes it from here only, its pool of buffers.
func init() { experimental.SetDefaultBufferPool(&wire.Pool{}) }
