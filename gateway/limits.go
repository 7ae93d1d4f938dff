package gateway

import (
	"fmt"
	"time"
)

// Limits bounds what callers can use up.
type Limits struct {
	// ConnectionCountMax is how many connections a listener holds at once; more
	// wait to be accepted: http.max.connections. At least 1.
	ConnectionCountMax int
	// ConnectionPerAddressCountMax is how many of them one address may have;
	// more are closed: http.max.connections.per.address. Loopback addresses,
	// where proxies are, have no such limit. At least 1.
	ConnectionPerAddressCountMax int
	// RequestCountMax is how many requests are worked on at once, live streams
	// not counted; more get 429: http.max.requests. At least 1.
	RequestCountMax int64
	// StreamCountMax is how many live streams go on at once; more get 429:
	// http.max.streams. At least 1.
	StreamCountMax int64
	// BodyBytesMax is the largest body of a request, before and after
	// decompression: http.max.request.bytes. At least 1 KiB.
	BodyBytesMax int64
	// BodyInFlightBytesMax is how many bytes of bodies, decompressed, are held
	// at once; requests beyond it get 429. At least BodyBytesMax.
	BodyInFlightBytesMax int64
	// AnswerInFlightBytesMax is how many bytes of records are held for answers at
	// once: response.max.inflight.bytes. Near it fetches answer with less than they
	// ask for; at it streams wait, and a fetch that waited in vain gets 429. At least
	// 1 MiB.
	AnswerInFlightBytesMax int64
	// HeaderBytesMax bounds the request line and headers. At least 1 KiB.
	HeaderBytesMax int
	// HeaderTimeout is how long a caller may take to send them.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a caller may take to send a body.
	BodyTimeout time.Duration
	// WriteTimeout is how long a caller may take to read an answer, and each
	// event of a stream.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection stays open between requests.
	IdleTimeout time.Duration
	// DrainTimeout is how long Serve waits for requests in progress when it
	// stops.
	DrainTimeout time.Duration
	// PollTimeMax is how long a v2 read may wait for records; a longer timeout
	// counts as this.
	PollTimeMax time.Duration
	// ConsumerCountMax is how many consumer instances there are at once; more
	// are refused: http.max.consumers. At least 1.
	ConsumerCountMax int
	// ConsumerIdleTimeout is after how long an instance that nobody calls is
	// gone, as Kafka REST's consumer.instance.timeout.ms.
	ConsumerIdleTimeout time.Duration
	// ProduceStreamTimeMax is how long a v3 stream of records may last; records
	// that come later are refused with 408, and the stream ends.
	ProduceStreamTimeMax time.Duration
	// HeartbeatInterval is how often a quiet event stream says that it lives.
	HeartbeatInterval time.Duration
}

// DefaultLimits returns the limits of a node that nobody has tuned.
func DefaultLimits() Limits {
	return Limits{
		ConnectionCountMax:           4096,
		ConnectionPerAddressCountMax: 256,
		RequestCountMax:              2048,
		StreamCountMax:               2048,
		BodyBytesMax:                 16 << 20,
		BodyInFlightBytesMax:         256 << 20,
		AnswerInFlightBytesMax:       128 << 20,
		HeaderBytesMax:               16 << 10,
		HeaderTimeout:                5 * time.Second,
		BodyTimeout:                  30 * time.Second,
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  time.Minute,
		DrainTimeout:                 10 * time.Second,
		PollTimeMax:                  30 * time.Second,
		ConsumerCountMax:             10_000,
		ConsumerIdleTimeout:          5 * time.Minute,
		ProduceStreamTimeMax:         24 * time.Hour,
		HeartbeatInterval:            15 * time.Second,
	}
}

// Validate names the first limit that is out of its range.
func (l Limits) Validate() error {
	for _, limit := range []struct {
		name       string
		value, min int64
	}{
		{"ConnectionCountMax", int64(l.ConnectionCountMax), 1},
		{"ConnectionPerAddressCountMax", int64(l.ConnectionPerAddressCountMax), 1},
		{"RequestCountMax", l.RequestCountMax, 1},
		{"StreamCountMax", l.StreamCountMax, 1},
		{"BodyBytesMax", l.BodyBytesMax, 1 << 10},
		{"BodyInFlightBytesMax", l.BodyInFlightBytesMax, l.BodyBytesMax},
		{"AnswerInFlightBytesMax", l.AnswerInFlightBytesMax, 1 << 20},
		{"HeaderBytesMax", int64(l.HeaderBytesMax), 1 << 10},
		{"HeaderTimeout", int64(l.HeaderTimeout), 1},
		{"BodyTimeout", int64(l.BodyTimeout), 1},
		{"WriteTimeout", int64(l.WriteTimeout), 1},
		{"IdleTimeout", int64(l.IdleTimeout), 1},
		{"DrainTimeout", int64(l.DrainTimeout), 1},
		{"PollTimeMax", int64(l.PollTimeMax), 1},
		{"ConsumerCountMax", int64(l.ConsumerCountMax), 1},
		{"ConsumerIdleTimeout", int64(l.ConsumerIdleTimeout), 1},
		{"ProduceStreamTimeMax", int64(l.ProduceStreamTimeMax), 1},
		{"HeartbeatInterval", int64(l.HeartbeatInterval), 1},
	} {
		if limit.value < limit.min {
			return fmt.Errorf("limit %s is %d, at least %d", limit.name, limit.value, limit.min)
		}
	}
	return nil
}
