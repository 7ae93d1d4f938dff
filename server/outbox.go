package server

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/wire"
)

// outbox is what the next answer of a gRPC call holds of the budget of answers, and
// the stored batches that go out with it.
//
// A handler's return, and the return of Send, say nothing about where the answer
// is: gRPC takes a message of any size and keeps it until the caller's window lets
// it go. So the bytes travel with the encoded message (answers.Marshal), and are
// given back when gRPC frees its memory.
type outbox struct {
	budget *budget.Budget
	stalls *stalls
	caller caller

	mu      sync.Mutex
	held    int64
	batches [][]byte // the field record_batches, in pieces that others read too
	dropped bool     // a stream's sender may go on for a moment after its handler
}

type outboxKey struct{}

func (s *Server) newOutbox(ctx context.Context) *outbox {
	return &outbox{budget: s.answers, stalls: s.stalls, caller: callerWithin(ctx)}
}

// outboxOf returns the outbox of a call, or nil where the answer does not leave the
// process.
func outboxOf(ctx context.Context) *outbox {
	o, _ := ctx.Value(outboxKey{}).(*outbox)
	return o
}

// put moves what a reader holds into the outbox.
func (o *outbox) put(h *holding, batches [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dropped {
		o.budget.Give(h.held)
		h.held = 0
		return
	}
	o.held += h.held
	h.held = 0
	o.batches = batches
}

// wrap returns the message with what the outbox holds, which is empty then.
func (o *outbox) wrap(message any) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held == 0 && len(o.batches) == 0 {
		return message
	}
	m, ok := message.(proto.Message)
	if !ok {
		return message
	}
	h := &heldMessage{
		message: m, batches: o.batches, debt: debt{budget: o.budget},
		transit: &transit{stalls: o.stalls, caller: o.caller},
	}
	h.debt.bytes.Store(o.held)
	o.held, o.batches = 0, nil
	return h
}

// drop gives back what is left, and what comes later.
func (o *outbox) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.budget.Give(o.held)
	o.held, o.batches, o.dropped = 0, nil, true
}

// heldMessage is an answer on its way to the codec.
type heldMessage struct {
	message proto.Message
	batches [][]byte
	debt    debt
	transit *transit
}

// outboxUnary gives unary calls an outbox. It stands innermost, and only where
// answers leave the process.
func (s *Server) outboxUnary(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (any, error) {
	o := s.newOutbox(ctx)
	reply, err := next(context.WithValue(ctx, outboxKey{}, o), request)
	if err != nil {
		o.drop()
		return nil, err
	}
	wrapped := o.wrap(reply)
	if h, ok := wrapped.(*heldMessage); ok {
		// The context ends after the message was encoded, or without that.
		context.AfterFunc(ctx, h.debt.pay)
	}
	return wrapped, nil
}

// outboxStream gives streams an outbox.
func (s *Server) outboxStream(
	server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler,
) error {
	o := s.newOutbox(stream.Context())
	defer o.drop()
	ctx := context.WithValue(stream.Context(), outboxKey{}, o)
	return next(server, &outboxedStream{ServerStream: stream, ctx: ctx, outbox: o})
}

// outboxedStream sends what the outbox holds with the next message. Only one
// goroutine may send, as on any stream.
type outboxedStream struct {
	grpc.ServerStream
	ctx    context.Context
	outbox *outbox
}

// Context returns the stream's context with its outbox.
func (s *outboxedStream) Context() context.Context { return s.ctx }

// SendMsg sends a message.
func (s *outboxedStream) SendMsg(message any) error {
	wrapped := s.outbox.wrap(message)
	err := s.ServerStream.SendMsg(wrapped)
	if h, ok := wrapped.(*heldMessage); ok {
		h.debt.pay() // if it was not encoded
	}
	return err
}

// answers is the codec of gRPC's messages, which knows held ones. Stored batches go
// out as they are in memory, without a copy.
type answers struct{ encoding.CodecV2 }

func newAnswers() answers { return answers{wire.NewCodec()} }

// Marshal encodes a message.
func (a answers) Marshal(v any) (mem.BufferSlice, error) {
	h, ok := v.(*heldMessage)
	if !ok {
		return a.CodecV2.Marshal(v)
	}
	defer h.debt.pay()
	if len(h.batches) == 0 {
		return h.encode()
	}
	field := h.message.ProtoReflect().Descriptor().Fields().ByName("record_batches")
	if field == nil {
		return nil, fmt.Errorf("message %T has no record_batches", h.message)
	}
	size := 0
	for _, b := range h.batches {
		size += len(b)
	}
	head, err := proto.Marshal(h.message)
	if err != nil {
		return nil, err
	}
	head = protowire.AppendTag(head, field.Number(), protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	data := mem.BufferSlice{mem.SliceBuffer(head)}
	for _, b := range h.batches {
		data = append(data, h.tracked(&b, int64(len(b)), nil))
	}
	return data, nil
}

// encode encodes the message into memory of gRPC's pool.
func (h *heldMessage) encode() (mem.BufferSlice, error) {
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(proto.Size(h.message))
	encoded, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(
		(*buffer)[:0], h.message)
	if err != nil {
		pool.Put(buffer)
		return nil, err
	}
	*buffer = encoded
	// In pieces, so that a caller who reads slowly can be told from one who does not.
	const pieceBytes = 256 << 10
	count := max(1, len(encoded)/pieceBytes)
	whole := &shared{BufferPool: pool, whole: buffer}
	whole.left.Store(int32(count))
	data := make(mem.BufferSlice, 0, count)
	for i := range count - 1 {
		piece := encoded[i*pieceBytes : (i+1)*pieceBytes : (i+1)*pieceBytes]
		data = append(data, h.tracked(&piece, pieceBytes, whole))
	}
	last := encoded[(count-1)*pieceBytes:]
	return append(data, h.tracked(&last, math.MaxInt64, whole)), nil
}

// tracked makes a buffer that gives up to n of the held bytes back when gRPC frees
// it, and its memory to a pool if it is of one.
func (h *heldMessage) tracked(data *[]byte, n int64, pool mem.BufferPool) mem.Buffer {
	if mem.IsBelowBufferPoolingThreshold(cap(*data)) {
		return mem.SliceBuffer(*data) // its bytes are given back with the rest
	}
	keeper := &keeper{debt: h.debt.split(n, h.transit), pool: pool}
	runtime.AddCleanup(keeper, (*debt).pay, keeper.debt) // of a connection that closed
	return mem.NewBuffer(data, keeper)
}

// shared is memory of a pool that goes back when all its pieces have come.
type shared struct {
	mem.BufferPool
	whole *[]byte
	left  atomic.Int32
}

// Put takes a piece.
func (s *shared) Put(*[]byte) {
	if s.left.Add(-1) == 0 {
		s.BufferPool.Put(s.whole)
	}
}

// debt is bytes of a budget that are given back once.
type debt struct {
	budget  *budget.Budget
	bytes   atomic.Int64
	transit *transit // nil until they are on the way
}

// split returns a debt of its own for up to n of the bytes, which are on the way.
func (d *debt) split(n int64, way *transit) *debt {
	part := &debt{budget: d.budget}
	for {
		all := d.bytes.Load()
		n = min(n, all)
		if d.bytes.CompareAndSwap(all, all-n) {
			if part.bytes.Store(n); n > 0 {
				part.transit = way
				way.add(part)
			}
			return part
		}
	}
}

// pay gives the bytes back.
func (d *debt) pay() {
	n := d.bytes.Swap(0)
	if n <= 0 {
		return
	}
	d.budget.Give(n)
	if d.transit != nil {
		d.transit.paid()
	}
}

// keeper is the pool that one buffer returns to.
type keeper struct {
	debt *debt
	pool mem.BufferPool
}

// Get is not called: a keeper's buffer is made before it.
func (k *keeper) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put takes the buffer back.
func (k *keeper) Put(data *[]byte) {
	k.debt.pay()
	if k.pool != nil {
		k.pool.Put(data)
	}
}
