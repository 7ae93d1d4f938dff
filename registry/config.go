package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/internal/avro"
)

// Config says where a registry keeps its schemas and how it answers. Start from
// DefaultConfig.
type Config struct {
	// Conn carries every call to the broker, which keeps the schemas. Required.
	Conn grpc.ClientConnInterface
	// Ready returns nil while the node around the registry can serve, and the
	// reason while it cannot; GET /readyz answers with it. Nil: always.
	Ready func() error
	// Docs holds registry.yaml at its top, which the documentation page shows.
	// Nil: no document and no page (404).
	Docs fs.FS
	// Logger takes what callers are not told. Nil: nothing is logged.
	Logger *slog.Logger
	// Version and Commit are what GET /v1/metadata/version answers.
	Version, Commit string

	// Topic is the compacted topic of one partition that holds the schemas. It
	// is made for the first one. Default "_schemas".
	Topic string
	// ReplicationFactor is that of the topic, if it is made, or as many as there are
	// brokers then where these are fewer. At least 1. Default 3.
	ReplicationFactor int32

	// ExtendedRegister makes a registration answer with the whole version and
	// not only its id. Default false, since strict clients compare the answer
	// with {"id":1}.
	ExtendedRegister bool
	// IncompatibleCode40901 makes error_code 40901 in the answer to an
	// incompatible schema, as Confluent's registry does from 8.2 on. Default
	// false: 409, which every client knows.
	IncompatibleCode40901 bool
	// LaxSchemas takes names and defaults in new schemas that Avro does not
	// allow, as old registries did. Default false.
	LaxSchemas bool

	// Limits bounds what callers can use up.
	Limits Limits
}

// Limits bounds what callers of a registry can use up.
type Limits struct {
	// Schema bounds what one schema may cost. Zero fields are avro's defaults:
	// 1 MiB of text, 128 levels, 10,000 fields.
	Schema avro.Limits
	// CacheBytes is about how much memory parsed schemas take, and as much
	// again the results of comparing them. At least 64 KiB.
	CacheBytes int
	// PageCountMax is how many schemas GET /schemas returns at most. At least 1.
	PageCountMax int
	// WriteTimeout is how long a write waits for the broker, and a read with
	// If-Revision for the write. It may have been written all the same.
	WriteTimeout time.Duration
	// PendingCountMax is how many writes may wait at once; more get 429. At
	// least 1.
	PendingCountMax int
	// WatchCountMax is how many change feeds may be open at once. At least 1.
	WatchCountMax int64

	// ConnectionCountMax is how many connections a listener holds at once; more
	// wait to be accepted. At least 1.
	ConnectionCountMax int
	// ConnectionPerAddressCountMax is how many of them one address may have;
	// more are closed. Loopback addresses, where proxies are, have no such
	// limit. At least 1.
	ConnectionPerAddressCountMax int
	// RequestCountMax is how many requests are worked on at once; more get 429.
	// At least 1.
	RequestCountMax int64
	// BodyBytesMax is the largest body of a request. At least 1 KiB.
	BodyBytesMax int64
	// HeaderBytesMax bounds the request line and headers. At least 1 KiB.
	HeaderBytesMax int
	// HeaderTimeout is how long a caller may take to send them.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a caller may take to send a body.
	BodyTimeout time.Duration
	// ResponseTimeout is how long a caller may take to read each part of an
	// answer.
	ResponseTimeout time.Duration
	// IdleTimeout is how long a connection stays open between requests.
	IdleTimeout time.Duration
	// DrainTimeout is how long Serve waits for requests in progress when it
	// stops.
	DrainTimeout time.Duration
}

// DefaultConfig returns the configuration of a registry that nobody has tuned;
// Conn is missing.
func DefaultConfig() Config {
	return Config{
		Topic:   "_schemas",
		Version: "dev",

		ReplicationFactor: 3,

		Limits: Limits{
			Schema:          avro.DefaultLimits(),
			CacheBytes:      32 << 20,
			PageCountMax:    1000,
			WriteTimeout:    10 * time.Second,
			PendingCountMax: 4096,
			WatchCountMax:   256,

			ConnectionCountMax:           4096,
			ConnectionPerAddressCountMax: 256,
			RequestCountMax:              2048,
			BodyBytesMax:                 4 << 20,
			HeaderBytesMax:               16 << 10,
			HeaderTimeout:                5 * time.Second,
			BodyTimeout:                  30 * time.Second,
			ResponseTimeout:              30 * time.Second,
			IdleTimeout:                  time.Minute,
			DrainTimeout:                 10 * time.Second,
		},
	}
}

// Validate names the first field that is missing or out of its range.
func (c *Config) Validate() error {
	switch {
	case c.Conn == nil:
		return errors.New("Config.Conn is nil")
	case c.Topic == "":
		return errors.New("Config.Topic is empty")
	case c.ReplicationFactor < 1:
		return fmt.Errorf("Config.ReplicationFactor is %d, at least 1", c.ReplicationFactor)
	}
	l := &c.Limits
	for _, limit := range []struct {
		name       string
		value, min int64
	}{
		{"CacheBytes", int64(l.CacheBytes), 64 << 10},
		{"PageCountMax", int64(l.PageCountMax), 1},
		{"WriteTimeout", int64(l.WriteTimeout), 1},
		{"PendingCountMax", int64(l.PendingCountMax), 1},
		{"WatchCountMax", l.WatchCountMax, 1},
		{"ConnectionCountMax", int64(l.ConnectionCountMax), 1},
		{"ConnectionPerAddressCountMax", int64(l.ConnectionPerAddressCountMax), 1},
		{"RequestCountMax", l.RequestCountMax, 1},
		{"BodyBytesMax", l.BodyBytesMax, 1 << 10},
		{"HeaderBytesMax", int64(l.HeaderBytesMax), 1 << 10},
		{"HeaderTimeout", int64(l.HeaderTimeout), 1},
		{"BodyTimeout", int64(l.BodyTimeout), 1},
		{"ResponseTimeout", int64(l.ResponseTimeout), 1},
		{"IdleTimeout", int64(l.IdleTimeout), 1},
		{"DrainTimeout", int64(l.DrainTimeout), 1},
	} {
		if limit.value < limit.min {
			return fmt.Errorf("limit %s is %d, at least %d", limit.name, limit.value, limit.min)
		}
	}
	return nil
}
