package wire

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// The sizes of the buffers that a Pool keeps, as exponents of two.
const (
	poolLeast = 8  // 256 B
	poolMost  = 24 // 16 MiB
)

// SocketBufferBytes is how much a producer writes and the node reads at once: a batch
// of the usual size goes in one piece. gRPC takes the memory of a pool while there is
// something to read or write, so that it costs an idle connection nothing. The way
// back has gRPC's own size: answers with 128 KiB cost the node a seventh more.
const SocketBufferBytes = 128 << 10

// Pool is a pool of buffers of every power of two for gRPC. That of gRPC has none
// between 32 KiB and 1 MiB, and clears what it hands out: a batch of 100 KiB costs
// the clearing of a megabyte on each side. This one clears nothing, which gRPC does
// not need: it reads no buffer before it has filled it.
type Pool struct {
	sizes [poolMost + 1]sync.Pool
}

var _ mem.BufferPool = (*Pool)(nil)

// Get returns a buffer of a length, with anything in it.
func (p *Pool) Get(length int) *[]byte {
	size := max(bits.Len(uint(max(length, 1)-1)), poolLeast)
	if size > poolMost {
		b := make([]byte, length)
		return &b
	}
	b, ok := p.sizes[size].Get().(*[]byte)
	if !ok {
		fresh := make([]byte, 1<<size)
		b = &fresh
	}
	*b = (*b)[:length]
	return b
}

// Put takes a buffer back, which must begin where Get gave it.
func (p *Pool) Put(b *[]byte) {
	size := bits.Len(uint(cap(*b))) - 1
	if size < poolLeast || size > poolMost {
		return
	}
	*b = (*b)[:cap(*b)]
	p.sizes[size].Put(b)
}
