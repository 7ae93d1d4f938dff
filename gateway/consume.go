package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"
	"github.com/sluicelog/sluice/internal/run"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// consumeBytesMax is the largest message that a consumer may send.
	consumeBytesMax = 256 << 10
	// consumeLeaveTimeout is how long a group is given to let a consumer go.
	consumeLeaveTimeout = 5 * time.Second
)

// addConsume adds the membership in a group over a WebSocket.
func (g *Gateway) addConsume() {
	g.add(route{
		method: http.MethodGet, pattern: "/v1/groups/{group}:consume",
		surface: nativeSurface, live: true, handle: g.consume,
	})
}

// groupSocket is a member of a group over a WebSocket, whose messages are those of
// GroupService.Consume as JSON, one a message.
type groupSocket struct {
	*socket
	stream sluicev1.GroupService_ConsumeClient
	// sending is held by what sends on the stream, and for good once it is closed:
	// gRPC allows one at a time.
	sending chan struct{}
	codec   *codec
	buffer  []byte
}

// consume makes the caller a member of a group for as long as the WebSocket
// lasts.
func (g *Gateway) consume(w *response, r *http.Request, p params) {
	leave, err := g.enterLive()
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer leave()
	join, err := joinOf(callOf(r).query, p["group"])
	if err != nil {
		g.fail(w, r, err)
		return
	}
	s := g.openSocket(w, r, consumeBytesMax)
	if s == nil {
		return
	}
	g.sockets.Add(1)
	defer g.sockets.Done()
	tasks := run.New(outgoing(r), "consumer")
	defer tasks.Close()
	defer s.conn.CloseNow() //nolint:errcheck // it is closed already but for a panic
	s.ctx = tasks.Context()
	c := &groupSocket{socket: s, codec: newCodec(), sending: make(chan struct{}, 1)}
	err = c.run(tasks, join, p["group"])
	if failed := tasks.Err(); failed != nil {
		err = failed
	}
	c.ctx = context.WithoutCancel(c.ctx) // the group's own has ended with the failure
	if err != nil && !errors.Is(err, errCaller) && !errors.Is(err, errDrained) {
		_, body, _ := describe(err)
		_ = c.write(lineForm.failure(body.text())) // best effort: it ends in any case
	}
	c.finish(err)
}

// joinOf reads what the query says of how to join: nil where the caller's first
// message is to.
func joinOf(query url.Values, group string) (*sluicev1.ConsumeRequest, error) {
	known := []string{"topic", "offset_reset", "instance_id", "client_id", "credit_bytes"}
	join := &sluicev1.ConsumeJoin{
		Group: group, Subscription: &sluicev1.Subscription{Topics: query["topic"]},
		OffsetReset: query.Get("offset_reset"), InstanceId: query.Get("instance_id"),
		ClientId: query.Get("client_id"), MaxBytes: liveBytesMax,
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return nil, fault.InvalidRequest.With().At(clip(name),
				"no such parameter; there are "+strings.Join(known, ", "))
		}
		if name != "topic" && len(values) > 1 {
			return nil, fault.InvalidRequest.With().At(name, "given more than once")
		}
	}
	if credit := query.Get("credit_bytes"); credit != "" {
		var err error
		if join.CreditBytes, err = jsonscan.ParseInt([]byte(credit), 64); err != nil {
			return nil, fault.InvalidRequest.With().At("credit_bytes", err.Error())
		}
	}
	switch {
	case len(query["topic"]) > 0:
		return &sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Join{Join: join}}, nil
	case len(query) > 0:
		return nil, fault.InvalidRequest.With().At("topic",
			"required with other parameters; without any, the first message is join")
	}
	return nil, nil
}

// run passes messages both ways until either side ends, and leaves the group.
func (c *groupSocket) run(tasks *run.Group, join *sluicev1.ConsumeRequest, group string) error {
	var err error
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.ctx))
	defer cancel()
	if c.stream, err = c.g.groups.Consume(ctx); err != nil {
		return err
	}
	if join != nil {
		if err := c.stream.Send(join); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	tasks.Go("read", func(ctx context.Context) error { return c.read(ctx, join != nil, group) })
	items := make(chan consumed)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.receive(ctx, items)
	}()
	err = c.pass(items)
	// The group is left in order: the node stores what was committed, and lets the
	// partitions go.
	give := time.AfterFunc(consumeLeaveTimeout, cancel)
	defer give.Stop()
	sending := c.sending
	for {
		select {
		case sending <- struct{}{}:
			_ = c.stream.CloseSend() // if that fails, the stream has ended
			sending = nil
		case <-items:
		case <-ended:
			return err
		}
	}
}

// consumed is what the group says next, or why it says nothing more.
type consumed struct {
	message *sluicev1.ConsumeResponse
	err     error
}

// receive hands on what the group says, up to an error.
func (c *groupSocket) receive(ctx context.Context, items chan<- consumed) {
	for {
		message, err := c.stream.Recv()
		select {
		case items <- consumed{message, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// pass sends what the group says to the caller.
func (c *groupSocket) pass(items <-chan consumed) error {
	beat := time.NewTicker(c.g.limits.HeartbeatInterval)
	defer beat.Stop()
	for {
		select {
		case <-c.g.stopping:
			return errDrained
		case <-c.ctx.Done():
			return errCaller
		case <-beat.C:
			if err := c.beat(nil); err != nil {
				return err
			}
		case next := <-items:
			if errors.Is(next.err, io.EOF) {
				return nil // it has left
			}
			if next.err != nil {
				return next.err
			}
			if err := c.tell(next.message); err != nil {
				return err
			}
		}
	}
}

// tell sends one message to the caller.
func (c *groupSocket) tell(m *sluicev1.ConsumeResponse) error {
	records := m.GetRecords()
	if records == nil {
		text, err := c.codec.Marshal(m)
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		return c.write(text)
	}
	c.buffer = appendConsumed(c.buffer[:0], records)
	if cap(c.buffer) > 4*liveBytesMax {
		defer func() { c.buffer = nil }() // one large record must not stay for good
	}
	return c.write(c.buffer)
}

// appendConsumed writes a message with records.
func appendConsumed(dst []byte, m *sluicev1.ConsumeRecords) []byte {
	dst = append(dst, `{"records":{"topic":`...)
	dst = appendText(dst, m.GetTopic())
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(m.GetPartition()), 10)
	dst = append(dst, `,"records":[`...)
	for i, record := range m.GetRecords() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendRecord(append(dst, '{'), record), '}')
	}
	dst = append(dst, ']')
	if len(m.GetRecordBatches()) > 0 {
		dst = appendBytes(append(dst, `,"record_batches":`...), m.GetRecordBatches())
	}
	for _, number := range []struct {
		name  string
		value int64
	}{
		{"high_watermark", m.GetHighWatermark()},
		{"log_start_offset", m.GetLogStartOffset()},
		{"next_offset", m.GetNextOffset()},
		{"credit_bytes", m.GetCreditBytes()},
	} {
		dst = append(dst, `,"`...)
		dst = append(dst, number.name...)
		dst = appendInt64(append(dst, `":`...), number.value)
	}
	return append(dst, "}}"...)
}

// read hands on what the caller says, until it says nothing more.
func (c *groupSocket) read(ctx context.Context, joined bool, group string) error {
	for {
		_, text, err := c.conn.Read(ctx)
		if errors.Is(err, websocket.ErrMessageTooBig) {
			// The caller has been told. What it still sends is read until it answers: a
			// connection that is closed before drops what it was told.
			return fault.InvalidRequest.Because("a message has more than %d bytes",
				consumeBytesMax)
		}
		if err != nil {
			return errCaller
		}
		message := &sluicev1.ConsumeRequest{}
		if err := jsonscan.Valid(text); err != nil {
			return fault.InvalidRequest.Because("the message is not JSON: %s", err)
		}
		if err := protojson.Unmarshal(text, message); err != nil {
			return fault.InvalidRequest.Because("%s", plainText(err))
		}
		if join := message.GetJoin(); join != nil && !joined {
			joined = true
			switch join.GetGroup() {
			case "", group:
				join.Group = group
			default:
				return fault.InvalidRequest.With().At("join.group",
					"is another one than that of the path")
			}
			if join.GetMaxBytes() == 0 {
				join.MaxBytes = liveBytesMax
			}
		}
		select {
		case c.sending <- struct{}{}:
		case <-ctx.Done():
			return errCaller
		}
		err = c.stream.Send(message)
		<-c.sending
		if err != nil {
			return nil //nolint:nilerr // the stream has ended, and says why
		}
	}
}
