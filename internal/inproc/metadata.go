package inproc

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// callOptions are the options of a call that mean something without a wire.
type callOptions struct {
	headers  []*metadata.MD
	trailers []*metadata.MD
	peers    []*peer.Peer
	finish   []func(error)
	creds    []grpc.PerRPCCredsCallOption
	sendMax  int // 0: no bound
	receive  int // 0: no bound
}

func readOptions(opts []grpc.CallOption) callOptions {
	var o callOptions
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			o.headers = append(o.headers, opt.HeaderAddr)
		case grpc.TrailerCallOption:
			o.trailers = append(o.trailers, opt.TrailerAddr)
		case grpc.PeerCallOption:
			o.peers = append(o.peers, opt.PeerAddr)
		case grpc.OnFinishCallOption:
			o.finish = append(o.finish, opt.OnFinish)
		case grpc.PerRPCCredsCallOption:
			o.creds = append(o.creds, opt)
		case grpc.MaxSendMsgSizeCallOption:
			o.sendMax = opt.MaxSendMsgSize
		case grpc.MaxRecvMsgSizeCallOption:
			o.receive = opt.MaxRecvMsgSize
		}
	}
	return o
}

// done gives the caller what it asked to be told of the end of a call.
func (o *callOptions) done(t *transport, err error) {
	if t != nil {
		header, trailer := t.received()
		for _, to := range o.headers {
			*to = header
		}
		for _, to := range o.trailers {
			*to = trailer
		}
		for _, to := range o.peers {
			*to = peer.Peer{Addr: Addr{}, AuthInfo: AuthInfo{}}
		}
	}
	for _, tell := range o.finish {
		tell(err)
	}
}

// metadata returns what the handler gets of the caller's outgoing metadata and
// credentials.
func (o *callOptions) metadata(ctx context.Context) (metadata.MD, error) {
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	md := make(metadata.MD, len(outgoing)+1)
	md[":authority"] = []string{"inproc"}
	for name, values := range outgoing {
		name = strings.ToLower(name)
		if err := validate(name, values); err != nil {
			return nil, err
		}
		if !reserved(name) {
			md[name] = append(md[name], values...)
		}
	}
	for _, c := range o.creds {
		pairs, err := c.Creds.GetRequestMetadata(ctx)
		if err != nil {
			if _, ok := status.FromError(err); ok {
				return nil, err
			}
			return nil, status.Errorf(codes.Unauthenticated, "inproc: credentials: %v", err)
		}
		for name, value := range pairs {
			name = strings.ToLower(name)
			md[name] = append(md[name], value)
		}
	}
	return md, nil
}

// reserved reports whether a name belongs to the protocol, not to callers.
func reserved(name string) bool {
	switch name {
	case "content-type", "user-agent", "te", "grpc-timeout", "grpc-encoding", "grpc-status",
		"grpc-message", "grpc-message-type":
		return true
	}
	return strings.HasPrefix(name, ":")
}

// validate refuses what HTTP/2 could not carry, as grpc does.
func validate(name string, values []string) error {
	if strings.HasPrefix(name, ":") {
		return nil
	}
	if name == "" {
		return status.Error(codes.Internal, "there is an empty key in the header")
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return status.Errorf(codes.Internal,
				"header key %.100q contains illegal characters not in [0-9a-z-_.]", name)
		}
	}
	if strings.HasSuffix(name, "-bin") {
		return nil
	}
	for _, value := range values {
		for i := range len(value) {
			if value[i] < 0x20 || value[i] > 0x7e {
				return status.Errorf(codes.Internal,
					"header key %q contains value with non-printable ASCII characters", name)
			}
		}
	}
	return nil
}

// transport holds what a handler says beside its messages. It is the handler's
// grpc.ServerTransportStream.
type transport struct {
	method string
	ready  chan struct{} // closed when the header is sent, or the handler ended

	mu      sync.Mutex
	header  metadata.MD
	trailer metadata.MD
	sent    bool // the header is on its way, and cannot change
	ended   bool
}

func newTransport(method string) *transport {
	return &transport{method: method, ready: make(chan struct{})}
}

var errHeaderSent = status.Error(codes.Internal,
	"inproc: the header was sent already, or the call has ended")

// Method returns the full name of the RPC.
func (t *transport) Method() string { return t.method }

// SetHeader adds to the header.
func (t *transport) SetHeader(md metadata.MD) error { return t.addHeader(md, false) }

// SendHeader adds to the header and sends it.
func (t *transport) SendHeader(md metadata.MD) error { return t.addHeader(md, true) }

func (t *transport) addHeader(md metadata.MD, send bool) error {
	for name, values := range md {
		if err := validate(strings.ToLower(name), values); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent || t.ended {
		return errHeaderSent
	}
	t.header = metadata.Join(t.header, md)
	if send {
		t.sendLocked()
	}
	return nil
}

// flush sends the header before the first message.
func (t *transport) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sent && !t.ended {
		t.sendLocked()
	}
}

func (t *transport) sendLocked() {
	t.sent = true
	close(t.ready)
}

// SetTrailer adds to the trailer.
func (t *transport) SetTrailer(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.trailer = metadata.Join(t.trailer, md)
	}
	return nil
}

// end says that the handler has returned. A header that was only set goes out
// now.
func (t *transport) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sent {
		t.sendLocked()
	}
	t.ended = true
}

// received returns what has been sent so far. The trailer is nil before the
// end.
func (t *transport) received() (header, trailer metadata.MD) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent {
		header = t.header
	}
	if t.ended {
		trailer = t.trailer
	}
	return header, trailer
}
