package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

// TopicSpec says which topic to create.
type TopicSpec struct {
	Name string
	// PartitionCount is the number of partitions; 0 takes num.partitions.
	PartitionCount int32
	// ReplicationFactor is the number of replicas of each; 0 takes
	// default.replication.factor. An internal topic gets as many as there are
	// nodes when there are fewer.
	ReplicationFactor int32
	// Assignment gives the replicas of each partition, the preferred leader
	// first. PartitionCount and ReplicationFactor are then 0 or agree with it.
	Assignment [][]int32
	// Configs are the settings of the topic itself.
	Configs map[string]string
	// Internal marks a topic of the cluster's own; only those have names that
	// begin with two underscores.
	Internal bool
	// ValidateOnly checks everything and creates nothing.
	ValidateOnly bool
}

// planCreate decides what a new topic will be. It changes nothing.
func (s *Snapshot) planCreate(spec TopicSpec, id UUID, now time.Time) (Topic, error) {
	if err := s.checkNewName(spec); err != nil {
		return Topic{}, err
	}
	if err := checkConfigs(setting.ScopeTopic, spec.Configs, nil); err != nil {
		return Topic{}, err
	}
	assignment, err := s.assign(spec, id)
	if err != nil {
		return Topic{}, err
	}
	if err := s.checkCount(0, len(assignment), spec.Internal); err != nil {
		return Topic{}, err
	}
	t := Topic{
		Name: spec.Name, ID: id, Internal: spec.Internal,
		Configs:    maps.Clone(spec.Configs),
		CreateTime: now.UTC().Truncate(time.Millisecond),
		Partitions: newPartitions(0, assignment),
	}
	return t, checkMinISR(t, t.Configs)
}

func (s *Snapshot) checkNewName(spec TopicSpec) error {
	if err := CheckTopicName(spec.Name); err != nil {
		return err
	}
	if isReserved(spec.Name) && !spec.Internal {
		return reserved(spec.Name)
	}
	if _, exists := s.names[spec.Name]; exists {
		return fault.TopicAlreadyExists.With("topic", spec.Name)
	}
	metric := metricName(spec.Name)
	for other := range s.names {
		if metricName(other) == metric {
			return fault.InvalidTopic.With("topic", spec.Name).Because(
				"it differs from the existing topic %s in '.' and '_' only", other)
		}
	}
	return nil
}

// checkCount holds the number of partitions against the limits.
func (s *Snapshot) checkCount(have, want int, internal bool) error {
	limit := int(s.broker.TopicPartitionCountMax)
	if want > limit {
		return fault.InvalidPartitions.With("partition_count", want).Because(
			"%d partitions are more than the %d that topic.max.partitions allows", want, limit)
	}
	if internal {
		return nil
	}
	total := want - have
	for _, state := range s.topics {
		if state.view != nil && !state.view.Internal {
			total += len(state.view.Partitions)
		}
	}
	if limit := int(s.broker.PartitionCountMax); total > limit {
		return fault.PolicyViolation.With("limit", limit, "setting", "max.partitions").Because(
			"the cluster would have %d partitions, more than the %d that max.partitions allows",
			total, limit)
	}
	return nil
}

// assign chooses or checks the replicas of a new topic.
func (s *Snapshot) assign(spec TopicSpec, id UUID) ([][]int32, error) {
	brokers := s.available()
	if len(spec.Assignment) > 0 {
		return spec.Assignment, checkAssignment(spec, brokers)
	}
	count, replicas := spec.PartitionCount, spec.ReplicationFactor
	if count == 0 {
		count = s.broker.DefaultPartitionCount
	}
	if replicas == 0 {
		replicas = s.broker.DefaultReplicationFactor
	}
	if limit := s.broker.TopicPartitionCountMax; count < 1 || count > limit {
		return nil, fault.InvalidPartitions.With("partition_count", count).Because(
			"a topic has 1 to %d (topic.max.partitions) partitions, not %d", limit, count)
	}
	if spec.Internal {
		replicas = min(replicas, int32(len(brokers)))
	}
	if replicas < 1 || int(replicas) > len(brokers) {
		return nil, fault.InvalidReplicationFactor.With("replication_factor", replicas).Because(
			"the replication factor is %d, and %d nodes are available", replicas, len(brokers))
	}
	return place(brokers, 0, count, int(replicas), seed(id)), nil
}

// seed makes the placement of a topic a function of its id.
func seed(id UUID) uint32 { return binary.BigEndian.Uint32(id[:4]) }

// available returns the nodes that may get replicas.
func (s *Snapshot) available() []Broker {
	return slices.DeleteFunc(s.Brokers(), func(b Broker) bool {
		return !b.Admitted || b.State != BrokerRunning
	})
}

func checkAssignment(spec TopicSpec, brokers []Broker) error {
	bad := func(format string, args ...any) error {
		return fault.InvalidReplicaAssignment.With("topic", spec.Name).Because(format, args...)
	}
	replicas := len(spec.Assignment[0])
	if n := spec.PartitionCount; n != 0 && int(n) != len(spec.Assignment) {
		return bad("it is for %d partitions, and partition_count is %d", len(spec.Assignment), n)
	}
	if n := spec.ReplicationFactor; n != 0 && int(n) != replicas {
		return bad("it has %d replicas, and replication_factor is %d", replicas, n)
	}
	for p, nodes := range spec.Assignment {
		if len(nodes) == 0 || len(nodes) != replicas {
			return bad("partition %d has %d replicas, partition 0 has %d", p, len(nodes), replicas)
		}
		for i, node := range nodes {
			known := slices.ContainsFunc(brokers, func(b Broker) bool { return b.ID == node })
			if !known {
				return bad("partition %d: there is no available node %d", p, node)
			}
			if slices.Contains(nodes[:i], node) {
				return bad("partition %d: node %d is there twice", p, node)
			}
		}
	}
	return nil
}

// newPartitions makes partitions whose replicas are all empty, hence in sync.
func newPartitions(first int32, assignment [][]int32) []Partition {
	partitions := make([]Partition, 0, len(assignment))
	for i, nodes := range assignment {
		partitions = append(partitions, Partition{
			ID: first + int32(i), Leader: nodes[0],
			Replicas: slices.Clone(nodes), ISR: slices.Clone(nodes),
		})
	}
	return partitions
}

// planGrow decides which partitions a topic gets so that it has count.
func (s *Snapshot) planGrow(name string, count int32) (Topic, []Partition, error) {
	t, err := s.lookup(name)
	if err != nil {
		return t, nil, err
	}
	if t.Internal {
		return t, nil, reserved(name)
	}
	have := int32(len(t.Partitions))
	if count <= have {
		return t, nil, fault.InvalidPartitions.With("topic", name, "partition_count", count).
			Because("topic %s has %d partitions, and %d are not more", name, have, count)
	}
	if err := s.checkCount(int(have), int(count), false); err != nil {
		return t, nil, err
	}
	brokers, replicas := s.available(), t.ReplicationFactor()
	if replicas > len(brokers) {
		return t, nil, fault.InvalidReplicationFactor.With("topic", name).Because(
			"topic %s has replication factor %d, and %d nodes are available", name, replicas,
			len(brokers))
	}
	added := newPartitions(have, place(brokers, have, count-have, replicas, seed(t.ID)))
	t.Partitions = append(slices.Clip(t.Partitions), added...)
	return t, added, nil
}

// lookup returns the topic of a name that a caller gave.
func (s *Snapshot) lookup(name string) (Topic, error) {
	t, ok := s.Topic(name)
	if !ok {
		if err := CheckTopicName(name); err != nil {
			return t, err
		}
		return t, fault.UnknownTopicOrPartition.With("topic", name)
	}
	return t, nil
}

// planConfigs returns the settings after a change. A name in both set and
// unset is refused; unsetting what is not set is fine.
func planConfigs(
	scope setting.Scope, old, set map[string]string, unset []string,
) (map[string]string, error) {
	if err := checkConfigs(scope, set, unset); err != nil {
		return nil, err
	}
	values := maps.Clone(old)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, set)
	for _, name := range unset {
		delete(values, name)
	}
	return values, nil
}

func checkConfigs(scope setting.Scope, set map[string]string, unset []string) error {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if err := setting.CheckDynamic(scope, name, set[name]); err != nil {
			return err
		}
	}
	for _, name := range unset {
		if value, both := set[name]; both {
			return fault.InvalidConfig.With("name", name, "value", value).Because(
				"it is both set and unset")
		}
		if err := setting.CheckName(scope, name); err != nil {
			return err
		}
	}
	return nil
}

// checkMinISR refuses a topic that could never be written with acks=all.
func checkMinISR(t Topic, configs map[string]string) error {
	const name = "min.insync.replicas"
	value, ok := configs[name]
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if n > t.ReplicationFactor() {
		return fault.InvalidConfig.With("name", name, "value", value).Because(
			"the topic has only %d replicas", t.ReplicationFactor())
	}
	return nil
}
