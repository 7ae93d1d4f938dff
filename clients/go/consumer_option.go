package sluice

import (
	"context"
	"errors"
	"fmt"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// ConsumerOption changes how a consumer works.
type ConsumerOption func(*consumerConfig)

// consumerConfig is everything that the options of a consumer set.
type consumerConfig struct {
	fetchBytes    int32
	prefetchBytes int64
	pollRecords   int
	isolation     IsolationLevel
	reset         *Offset
	resetSet      bool
	stopAtEnd     bool

	group        string
	instanceID   string
	rack         string
	clientID     string
	assignor     string
	protocol     RebalanceProtocol
	session      time.Duration
	pollInterval time.Duration
	autoCommit   time.Duration
	onAssigned   RebalanceFunc
	onRevoked    RebalanceFunc
	onLost       RebalanceFunc
}

// RebalanceFunc is told of partitions that a group gives to a consumer or takes away. It is called
// in Poll, or in Close, under the context of that call, and may call everything of the consumer
// but Poll, Records and Close.
type RebalanceFunc func(ctx context.Context, c *Consumer, partitions []TopicPartition)

func defaultConsumerConfig() consumerConfig {
	nothing := func(context.Context, *Consumer, []TopicPartition) {}
	return consumerConfig{
		fetchBytes: 1 << 20, prefetchBytes: 16 << 20, pollRecords: 500,
		pollInterval: 5 * time.Minute, autoCommit: 5 * time.Second,
		onAssigned: nothing, onRevoked: nothing, onLost: nothing,
	}
}

// IsolationLevel says which records of transactions are read.
type IsolationLevel int8

const (
	// ReadUncommitted reads all records. The default.
	ReadUncommitted IsolationLevel = iota
	// ReadCommitted reads only records of no or of committed transactions.
	ReadCommitted
)

// wire returns the level of a request.
func (l IsolationLevel) wire() sluicev1.IsolationLevel {
	if l == ReadCommitted {
		return sluicev1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	}
	return sluicev1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
}

// WithFetchBytes sets how many bytes of records, as stored, come in one message at most; a record
// that is larger comes all the same (fetch.max.bytes). Default 1 MiB.
func WithFetchBytes(size int32) ConsumerOption {
	return func(c *consumerConfig) { c.fetchBytes = size }
}

// WithPrefetchBytes bounds what is read ahead of Poll, in bytes of records as stored, beside what
// the connection itself holds. Default 16 MiB. A consumer that does not poll holds up itself only.
func WithPrefetchBytes(size int64) ConsumerOption {
	return func(c *consumerConfig) { c.prefetchBytes = size }
}

// WithMaxPollRecords bounds the records of one Poll (max.poll.records). Default 500.
func WithMaxPollRecords(count int) ConsumerOption {
	return func(c *consumerConfig) { c.pollRecords = count }
}

// WithIsolationLevel says which records of transactions are read (isolation.level). Default
// ReadUncommitted.
func WithIsolationLevel(level IsolationLevel) ConsumerOption {
	return func(c *consumerConfig) { c.isolation = level }
}

// WithOffsetReset says where to begin in a partition of which the group has stored no offset, and
// where to go on when the log does not hold the offset to read (auto.offset.reset). Default: with
// Subscribe the end, as in Kafka; with Assign nowhere, see WithoutOffsetReset. Ago gives what
// Kafka calls by_duration.
func WithOffsetReset(to Offset) ConsumerOption {
	return func(c *consumerConfig) { c.reset, c.resetSet = &to, true }
}

// WithoutOffsetReset makes it an error of Poll instead (auto.offset.reset=none):
// ErrNoOffsetForPartition or ErrOffsetOutOfRange, until Seek.
func WithoutOffsetReset() ConsumerOption {
	return func(c *consumerConfig) { c.reset, c.resetSet = nil, true }
}

// WithStopAtEnd makes reading end with io.EOF once every partition has been read up to the end
// that it had when its first message came, instead of waiting for new records. A member of a group
// reads all that it is given; one that gets nothing ends once its group is stable.
func WithStopAtEnd() ConsumerOption {
	return func(c *consumerConfig) { c.stopAtEnd = true }
}

// WithGroup names the group (group.id): of which Subscribe makes the consumer a member, and to
// which Commit stores offsets.
func WithGroup(group string) ConsumerOption {
	return func(c *consumerConfig) { c.group = group }
}

// WithInstanceID makes it a static member (group.instance.id, KIP-345): one that is closed, or
// dies, and is back within its session timeout finds its partitions where they were, and nobody
// else stops. No two consumers of a group may have the same.
func WithInstanceID(id string) ConsumerOption {
	return func(c *consumerConfig) { c.instanceID = id }
}

// WithRack names the failure domain of the consumer (client.rack). Records are read from an
// in-sync replica of a broker with that rack where there is one (KIP-392), whose high watermark may
// be a little behind, and else from the leader.
func WithRack(rack string) ConsumerOption {
	return func(c *consumerConfig) { c.rack = rack }
}

// WithClientID names the consumer for those who look at the group (client.id).
func WithClientID(id string) ConsumerOption {
	return func(c *consumerConfig) { c.clientID = id }
}

// WithAssignor asks for a way to share partitions out (group.remote.assignor): uniform, range,
// round-robin or sticky. The group uses what most members ask for. Default: the cluster's.
func WithAssignor(name string) ConsumerOption {
	return func(c *consumerConfig) { c.assignor = name }
}

// RebalanceProtocol says how partitions change hands.
type RebalanceProtocol int8

const (
	// Cooperative: only what moves is given up; nobody stops reading anything else (KIP-429). The
	// default.
	Cooperative RebalanceProtocol = iota
	// Eager: all members give everything up, and then all get what they should have. A group is
	// eager as long as one of its members is.
	Eager
)

// wire returns the protocol of a request.
func (p RebalanceProtocol) wire() sluicev1.RebalanceProtocol {
	if p == Eager {
		return sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_EAGER
	}
	return sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_COOPERATIVE
}

// WithRebalanceProtocol says how partitions change hands. Default Cooperative.
func WithRebalanceProtocol(protocol RebalanceProtocol) ConsumerOption {
	return func(c *consumerConfig) { c.protocol = protocol }
}

// WithSessionTimeout says after how much silence the member is taken for dead
// (session.timeout.ms). Default: the cluster's group.consumer.session.timeout.ms.
func WithSessionTimeout(timeout time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.session = timeout }
}

// WithMaxPollInterval says how long the program may work on records between two calls of Poll
// (max.poll.interval.ms); after that the member leaves, and others get its partitions. It is also
// how long a rebalance waits for Poll to give partitions up. Default 5 min, at most 1 h.
func WithMaxPollInterval(interval time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.pollInterval = interval }
}

// WithAutoCommit says how often Poll commits how far it has come (auto.commit.interval.ms); 0
// turns that off (enable.auto.commit=false), and then the program calls Commit. Default 5 s.
// What is revoked, and everything in Close, is committed at once. Only members of a group do so.
func WithAutoCommit(interval time.Duration) ConsumerOption {
	return func(c *consumerConfig) { c.autoCommit = interval }
}

// WithOnAssigned is told of partitions that are the consumer's from now on, and may Seek in them.
// Reading begins at what the group has stored.
func WithOnAssigned(told RebalanceFunc) ConsumerOption {
	return func(c *consumerConfig) { c.onAssigned = told }
}

// WithOnRevoked is told of partitions before they are given up, and may still Commit them. No
// records of them follow.
func WithOnRevoked(told RebalanceFunc) ConsumerOption {
	return func(c *consumerConfig) { c.onRevoked = told }
}

// WithOnLost is told of partitions that were taken away: the member was taken for dead, and they
// may be somebody else's by now. A commit of them is refused.
func WithOnLost(told RebalanceFunc) ConsumerOption {
	return func(c *consumerConfig) { c.onLost = told }
}

// check returns what is wrong with the configuration, or nil.
func (c *consumerConfig) check() error {
	var errs []error
	atLeastOne := func(name string, value int64) {
		if value < 1 {
			errs = append(errs, fmt.Errorf("sluice: %s is %d, want 1 or more", name, value))
		}
	}
	atLeastOne("fetch bytes", int64(c.fetchBytes))
	atLeastOne("prefetch bytes", c.prefetchBytes)
	atLeastOne("max poll records", int64(c.pollRecords))
	atLeastOne("max poll interval in ms", c.pollInterval.Milliseconds())
	if c.autoCommit < 0 {
		errs = append(errs, fmt.Errorf("sluice: auto commit is %v, want 0 or more", c.autoCommit))
	}
	if c.session < 0 {
		errs = append(errs, fmt.Errorf("sluice: session timeout is %v, want 0 or more", c.session))
	}
	for _, told := range []*RebalanceFunc{&c.onAssigned, &c.onRevoked, &c.onLost} {
		if *told == nil {
			*told = func(context.Context, *Consumer, []TopicPartition) {}
		}
	}
	return errors.Join(errs...)
}
