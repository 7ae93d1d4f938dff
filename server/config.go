package server

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/server/schema"
)

// Config says what a Server is beside the cluster and the store that it is
// given. Start from DefaultConfig. Broker settings come from the cluster.
type Config struct {
	// Version is what ClusterService reports. Default "dev".
	Version string
	// Logger takes the access log, at debug level, and failures. Default:
	// slog.Default().
	Logger *slog.Logger
	// Clock gives the wall clock, for timestamps and commit times. Default:
	// time.Now.
	Clock func() time.Time
	// Schemas is the registry that knows the schemas of the records that topics
	// ask to be checked. Default nil: such topics can't be written to.
	Schemas schema.Source
	// PeerOptions are added to those of the connections to other nodes, such as
	// credentials. Default: none, and no encryption.
	PeerOptions []grpc.DialOption
	// TopicLabelCountMax is how many topics have metrics of their own; all
	// others share those of "(other)". Default 1000, range 1 to 10,000.
	TopicLabelCountMax int
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Version: "dev", Logger: slog.Default(), Clock: time.Now, TopicLabelCountMax: 1000,
	}
}

// Validate reports the first field that is out of its range.
func (c Config) Validate() error {
	switch {
	case c.Logger == nil:
		return fmt.Errorf("server: Logger is nil: start from DefaultConfig")
	case c.Clock == nil:
		return fmt.Errorf("server: Clock is nil: start from DefaultConfig")
	case c.TopicLabelCountMax < 1 || c.TopicLabelCountMax > 10_000:
		return fmt.Errorf("server: TopicLabelCountMax is %d, allowed is 1 to 10000",
			c.TopicLabelCountMax)
	}
	return nil
}
