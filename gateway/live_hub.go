package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// liveBytesMax is how many bytes of records are read at once for a stream.
	liveBytesMax = 64 << 10
	// hubBytesMax is how much of what was written a hub keeps for listeners that
	// have not read it yet. One that falls further behind reads from the log.
	hubBytesMax = 256 << 10
	// hubsBytesMax is the same for all hubs of a gateway together.
	hubsBytesMax = 64 << 20
)

// hubs are the hubs of a gateway. Lock order: hubs.mu, then hub.mu.
type hubs struct {
	mu    sync.Mutex
	all   map[string]*hub
	bytes atomic.Int64 // kept by all
}

// hub reads the end of a topic once for all listeners that follow it with the
// same credentials. Each message becomes a chunk, which is encoded once; the
// listeners only write it.
type hub struct {
	g    *Gateway
	key  string
	done chan struct{} // closed when the reader has ended
	stop context.CancelFunc

	listeners int // guarded by hubs.mu

	mu      sync.Mutex
	at      *position     // the end of the last chunk
	first   uint64        // number of the first chunk that is kept
	chunks  []*news       // from first on
	tail    []int64       // the offsets at the beginning of the first chunk
	bytes   int64         // of the chunks
	changed chan struct{} // closed and replaced at each chunk, and at the end
	uses    [formCount]int
	err     error // why the reader ended
}

// news is what the log gained in one partition. It does not change.
type news struct {
	index     int // of the partition in the position
	partition int32
	records   []*sluicev1.Record
	next      int64 // offset after the chunk
	bytes     int64
	text      [formCount][]byte // nil: nobody used the form when it came
}

// join makes a listener one of the hub of its stream, which it starts if there
// is none.
func (g *Gateway) join(r *http.Request, at *position, form *form) *hub {
	key := fmt.Sprintf("%q %t %v %q", at.topic, at.all, at.partitions,
		r.Header.Values("Authorization"))
	if at.all {
		key = fmt.Sprintf("%q %q", at.topic, r.Header.Values("Authorization"))
	}
	g.hubs.mu.Lock()
	defer g.hubs.mu.Unlock()
	h := g.hubs.all[key]
	if h == nil {
		h = &hub{
			g: g, key: key, done: make(chan struct{}), at: at.clone(),
			tail: slices.Clone(at.next), changed: make(chan struct{}),
		}
		md, _ := metadata.FromOutgoingContext(outgoing(r))
		ctx := metadata.NewOutgoingContext(context.WithoutCancel(r.Context()), md)
		ctx, h.stop = context.WithCancel(ctx)
		g.hubs.all[key] = h
		go h.run(ctx)
	}
	h.listeners++
	h.mu.Lock()
	h.uses[form.number]++
	h.mu.Unlock()
	return h
}

// leave takes a listener out. The last one ends the hub.
func (h *hub) leave(form *form) {
	h.mu.Lock()
	h.uses[form.number]--
	h.mu.Unlock()
	h.g.hubs.mu.Lock()
	h.listeners--
	last := h.listeners == 0
	if last && h.g.hubs.all[h.key] == h {
		delete(h.g.hubs.all, h.key)
	}
	h.g.hubs.mu.Unlock()
	if last {
		h.stop()
		<-h.done
	}
}

// run reads until the last listener is gone or the topic ends.
func (h *hub) run(ctx context.Context) {
	defer close(h.done)
	var err error
	for err == nil {
		err = h.follow(ctx)
	}
	h.g.hubs.mu.Lock()
	if h.g.hubs.all[h.key] == h { // who comes later begins with a hub that works
		delete(h.g.hubs.all, h.key)
	}
	h.g.hubs.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	h.g.hubs.bytes.Add(-h.bytes)
	h.chunks, h.bytes = nil, 0
	close(h.changed)
	h.changed = make(chan struct{})
}

// item is what a stream brings next: a message, or why there is none.
type item struct {
	message *sluicev1.FetchStreamResponse
	err     error
}

// follow reads from the position on. It returns nil where the topic has more
// partitions since, which the next call includes.
func (h *hub) follow(ctx context.Context) error {
	tasks := run.New(ctx, "live")
	defer tasks.Close()
	stream, err := h.g.streams.FetchStream(tasks.Context(), h.at.request())
	if err != nil {
		return err
	}
	items := make(chan item)
	tasks.Go("receive", func(ctx context.Context) error {
		for {
			message, err := stream.Recv()
			select {
			case items <- item{message, err}:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err != nil {
				return err
			}
		}
	})
	beat := time.NewTicker(h.g.limits.HeartbeatInterval)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return errCaller
		case next := <-items:
			if errors.Is(next.err, io.EOF) {
				return fault.BrokerNotAvailable.Because("the broker ended the stream")
			}
			if next.err != nil {
				return next.err
			}
			h.publish(next.message)
		case <-beat.C:
			all, err := h.g.grown(ctx, h.at)
			if err != nil {
				return err
			}
			if all != nil {
				h.extend(all)
				return nil
			}
		}
	}
}

// extend adds partitions. It is called by the reader only, as publish is.
func (h *hub) extend(all []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at.extend(all)
	for len(h.tail) < len(h.at.next) {
		h.tail = append(h.tail, 0)
	}
}

// publish gives a message to the listeners.
func (h *hub) publish(m *sluicev1.FetchStreamResponse) {
	index := slices.Index(h.at.partitions, m.GetPartition())
	if len(m.GetRecords()) == 0 || index < 0 {
		return
	}
	c := &news{
		index: index, partition: m.GetPartition(), records: m.GetRecords(),
		next: max(m.GetNextOffset(), m.GetRecords()[len(m.GetRecords())-1].GetOffset()+1),
	}
	h.mu.Lock()
	uses := h.uses
	h.mu.Unlock()
	for i, f := range forms {
		if uses[i] > 0 {
			at := h.at.clone()
			c.text[i] = f.events(nil, at, c, nil)
			c.bytes += int64(len(c.text[i]))
		}
	}
	for _, record := range c.records {
		c.bytes += recordBytes(record)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at.next[index] = c.next
	h.chunks = append(h.chunks, c)
	h.bytes += c.bytes
	total := h.g.hubs.bytes.Add(c.bytes)
	for len(h.chunks) > 1 && (h.bytes > hubBytesMax || total > hubsBytesMax) {
		total = h.drop()
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// drop forgets the first chunk, and returns what all hubs keep then.
func (h *hub) drop() int64 {
	c := h.chunks[0]
	h.tail[c.index] = c.next
	h.chunks[0] = nil
	h.chunks = h.chunks[1:]
	h.first++
	h.bytes -= c.bytes
	return h.g.hubs.bytes.Add(-c.bytes)
}

// recordBytes is about what a record takes in memory.
func recordBytes(r *sluicev1.Record) int64 {
	size := int64(128 + len(r.GetKey()) + len(r.GetValue()))
	for _, header := range r.GetHeaders() {
		size += int64(64 + len(header.GetName()) + len(header.GetValue()))
	}
	return size
}
