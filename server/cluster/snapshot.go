package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/setting"
)

// Snapshot is the metadata as of one revision. It never changes; everything it
// returns is shared and must not be changed either. All methods may be called
// concurrently.
type Snapshot struct {
	local    local
	revision int64
	last     int64 // the newest change that it holds
	alive    int   // nodes

	names   map[string]UUID
	topics  map[UUID]*topicState
	configs map[string]entry[configRecord] // cfg/cluster and cfg/broker/<id>
	nodes   map[int32]nodeState
	ctl     entry[controllerRecord]

	nodesRevision int64 // of the last change of nodes

	corrupt map[UUID][]corruption // damaged replicas, by topic; replaced, never changed
	claims  map[UUID][]claim      // what replicas hold of orphaned partitions; likewise

	restore entry[restoreRecord]
	held    map[int32]map[int32]entry[heldRecord] // by node and part; replaced as well

	broker  setting.Broker // resolved for the local node
	changed chan struct{}  // closed when a newer snapshot is there
	sorted  func() []Topic
}

// local is what a snapshot knows of the node that it is made for.
type local struct {
	nodeID int32
	static map[string]string
}

// entry is a record with the revision of its last change, 0 where there is
// none.
type entry[R any] struct {
	record R
	mod    int64
	create int64
}

// topicState is immutable once it is in a published snapshot. It begins to be
// visible with its topic record, which is written last.
type topicState struct {
	name   string
	topic  entry[topicRecord]
	config entry[configRecord]
	parts  map[int32]entry[partitionRecord]
	view   *Topic // nil while it is not visible
}

type nodeState struct {
	epoch entry[epochRecord]
	live  entry[liveRecord]
	admit entry[admitRecord]
}

// newSnapshot returns the metadata of a cluster in which nothing was ever
// written.
func newSnapshot(l local) *Snapshot {
	s := &Snapshot{
		local:   l,
		names:   map[string]UUID{},
		topics:  map[UUID]*topicState{},
		configs: map[string]entry[configRecord]{},
		nodes:   map[int32]nodeState{},
		changed: make(chan struct{}),
	}
	s.broker = setting.ResolveBroker(s.layers(l.nodeID))
	s.sorted = sync.OnceValue(s.sortTopics)
	return s
}

// Revision returns the revision of the metadata, which only grows.
func (s *Snapshot) Revision() int64 { return s.revision }

// LastChange returns the revision of the newest change that the snapshot holds.
// Unlike Revision, which may stand for a moment at which nothing changed, every
// node's snapshot comes to be as new as that.
func (s *Snapshot) LastChange() int64 { return s.last }

// Changed returns a channel that is closed once there is a newer snapshot.
func (s *Snapshot) Changed() <-chan struct{} { return s.changed }

// Topic returns the topic of a name.
func (s *Snapshot) Topic(name string) (Topic, bool) {
	id, ok := s.names[name]
	if !ok {
		return Topic{}, false
	}
	return s.TopicByID(id)
}

// TopicByID returns the topic of an id.
func (s *Snapshot) TopicByID(id UUID) (Topic, bool) {
	state := s.topics[id]
	if state == nil || state.view == nil {
		return Topic{}, false
	}
	return *state.view, true
}

// Topics returns all topics, internal ones too, sorted by name.
func (s *Snapshot) Topics() []Topic { return s.sorted() }

func (s *Snapshot) sortTopics() []Topic {
	topics := make([]Topic, 0, len(s.names))
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		if t, ok := s.Topic(name); ok {
			topics = append(topics, t)
		}
	}
	return topics
}

// Brokers returns the nodes that are alive, sorted by id.
func (s *Snapshot) Brokers() []Broker {
	var brokers []Broker
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		if b, ok := s.Broker(id); ok {
			brokers = append(brokers, b)
		}
	}
	return brokers
}

// NodeCount returns how many nodes are alive.
func (s *Snapshot) NodeCount() int { return s.alive }

// Broker returns a node, if it is alive.
func (s *Snapshot) Broker(id int32) (Broker, bool) {
	node := s.nodes[id]
	if node.live.mod == 0 || node.epoch.mod == 0 {
		return Broker{}, false
	}
	return Broker{
		ID: id, Rack: node.live.record.Rack,
		GRPCAddress: node.live.record.GRPC, HTTPAddress: node.live.record.HTTP,
		Epoch: node.epoch.mod, State: node.live.record.State, Admitted: node.admitted(),
		Incarnation: node.epoch.record.Incarnation,
	}, true
}

// standing returns what the controller thinks of a node.
func (s *Snapshot) standing(id int32) standing {
	b, ok := s.Broker(id)
	switch {
	case !ok || !b.Admitted:
		return standingGone
	case b.State == BrokerRunning:
		return standingServing
	case b.State == BrokerDraining:
		return standingDraining
	}
	return standingGone
}

func (n nodeState) admitted() bool {
	return n.epoch.mod != 0 && n.admit.record.Epoch == n.epoch.mod
}

// Controller returns the node that is the controller, or NoLeader.
func (s *Snapshot) Controller() int32 {
	if s.ctl.mod == 0 {
		return NoLeader
	}
	return s.ctl.record.ID
}

// ClusterConfigs returns the settings that all nodes were given while running.
func (s *Snapshot) ClusterConfigs() map[string]string {
	return s.configs[keyClusterConfig].record.Values
}

// BrokerConfigs returns the settings that one node was given while running.
func (s *Snapshot) BrokerConfigs(node int32) map[string]string {
	return s.configs[keyBrokerConfig(node)].record.Values
}

// BrokerSettings returns the settings that hold for the local node.
func (s *Snapshot) BrokerSettings() setting.Broker { return s.broker }

// TopicSettings returns the settings that hold for a topic on the local node.
func (s *Snapshot) TopicSettings(t Topic) setting.Topic {
	if t.settings != nil {
		return *t.settings
	}
	layers := s.layers(s.local.nodeID)
	layers.Topic = t.Configs
	return setting.ResolveTopic(layers)
}

// TopicEntries returns every setting of a topic with where it comes from,
// sorted by name.
func (s *Snapshot) TopicEntries(t Topic) []setting.Entry {
	layers := s.layers(s.local.nodeID)
	layers.Topic = t.Configs
	return setting.Entries(setting.ScopeTopic, layers)
}

// BrokerEntries returns every setting of a node with where it comes from,
// sorted by name. What another node than the local one was given at its start
// is not known here and doesn't show.
func (s *Snapshot) BrokerEntries(node int32) []setting.Entry {
	return setting.Entries(setting.ScopeBroker, s.layers(node))
}

func (s *Snapshot) layers(node int32) setting.Layers {
	layers := setting.Layers{Broker: s.BrokerConfigs(node), Cluster: s.ClusterConfigs()}
	if node == s.local.nodeID {
		layers.Static = s.local.static
	}
	return layers
}

// event is one change of one key: a put, or a delete where value is nil.
type event struct {
	key    string // below the root
	value  []byte
	mod    int64 // the revision of the change
	create int64 // the revision that created the key
}

// apply returns the snapshot after events, as of a revision. The receiver
// stays as it is. An error means that the metadata is not of this version's
// making; the cluster can't be followed any further.
func (s *Snapshot) apply(events []event, revision int64) (*Snapshot, error) {
	d := draft{next: *s, dirty: map[UUID]bool{}}
	d.next.changed = make(chan struct{})
	d.next.revision = max(s.revision, revision)
	for _, e := range events {
		if err := d.apply(e); err != nil {
			return nil, err
		}
		d.next.last = max(d.next.last, e.mod)
		d.next.revision = max(d.next.revision, e.mod)
	}
	d.resolve()
	next := &d.next
	next.sorted = sync.OnceValue(next.sortTopics)
	return next, nil
}

// draft is a snapshot in the making. Maps of the old one are copied before the
// first change.
type draft struct {
	next    Snapshot
	dirty   map[UUID]bool // topics whose state is already a copy
	ownMaps struct{ names, topics, configs, nodes bool }
}

func (d *draft) apply(e event) error {
	room, rest, _ := strings.Cut(e.key, "/")
	switch room {
	case "topic":
		return d.applyTopic(rest, e)
	case "part":
		return d.applyPartition(rest, e)
	case "cfg":
		return d.applyConfig(rest, e)
	case "epoch", "live", "admit":
		return d.applyNode(room, rest, e)
	case "claim":
		return d.applyClaim(rest, e)
	case "corrupt":
		return d.applyCorrupt(rest, e)
	case "held":
		return d.applyHeld(rest, e)
	case keyRestore:
		return apply(&d.next.restore, e)
	case keyController:
		return apply(&d.next.ctl, e)
	}
	return nil // of a later version, or no part of the snapshot
}

// apply puts or deletes one record.
func apply[R any](at *entry[R], e event) error {
	if e.value == nil {
		*at = entry[R]{}
		return nil
	}
	record, err := decode[R](e.key, e.value)
	if err != nil {
		return err
	}
	*at = entry[R]{record: record, mod: e.mod, create: e.create}
	return nil
}

func (d *draft) applyTopic(name string, e event) error {
	var topic entry[topicRecord]
	if err := apply(&topic, e); err != nil {
		return err
	}
	if topic.mod != 0 {
		if err := topic.record.check(name); err != nil {
			return fmt.Errorf("metadata key %.300q: %w", e.key, err)
		}
	}
	own(&d.ownMaps.names, &d.next.names)
	if old, ok := d.next.names[name]; ok && (topic.mod == 0 || old != topic.record.ID) {
		delete(d.next.names, name)
		d.touch(old).topic = entry[topicRecord]{}
	}
	if topic.mod == 0 {
		return nil
	}
	d.next.names[name] = topic.record.ID
	state := d.touch(topic.record.ID)
	state.name, state.topic = name, topic
	return nil
}

func (d *draft) applyPartition(rest string, e event) error {
	id, partition, err := parsePartitionKey(rest)
	if err != nil {
		return fmt.Errorf("metadata key %.300q: %w", e.key, err)
	}
	if e.value == nil {
		delete(d.touch(id).parts, partition)
		return nil
	}
	var part entry[partitionRecord]
	if err := apply(&part, e); err != nil {
		return err
	}
	if err := part.record.check(); err != nil {
		return fmt.Errorf("metadata key %.300q: %w", e.key, err)
	}
	d.touch(id).parts[partition] = part
	return nil
}

func (d *draft) applyConfig(rest string, e event) error {
	var config entry[configRecord]
	if err := apply(&config, e); err != nil {
		return err
	}
	if topic, ok := strings.CutPrefix(rest, "topic/"); ok {
		id, err := ParseUUID(topic)
		if err != nil {
			return fmt.Errorf("metadata key %.300q: %w", e.key, err)
		}
		d.touch(id).config = config
		return nil
	}
	own(&d.ownMaps.configs, &d.next.configs)
	d.next.configs[e.key] = config
	if config.mod == 0 {
		delete(d.next.configs, e.key)
	}
	// The defaults of every topic may have changed.
	for id := range d.next.topics {
		d.touch(id)
	}
	return nil
}

func (d *draft) applyNode(room, rest string, e event) error {
	id, err := parseNumber(rest)
	if err != nil {
		return fmt.Errorf("metadata key %.300q: %w", e.key, err)
	}
	own(&d.ownMaps.nodes, &d.next.nodes)
	node := d.next.nodes[id]
	switch room {
	case "epoch":
		err = apply(&node.epoch, e)
	case "live":
		err = apply(&node.live, e)
	default:
		err = apply(&node.admit, e)
	}
	d.next.nodes[id] = node
	d.next.alive = 0
	for _, n := range d.next.nodes {
		if n.live.mod != 0 {
			d.next.alive++
		}
	}
	d.next.nodesRevision = max(d.next.nodesRevision, e.mod)
	return err
}

// touch returns the state of a topic as a copy that may be changed.
func (d *draft) touch(id UUID) *topicState {
	if d.dirty[id] {
		return d.next.topics[id]
	}
	d.dirty[id] = true
	own(&d.ownMaps.topics, &d.next.topics)
	state := &topicState{parts: map[int32]entry[partitionRecord]{}}
	if old := d.next.topics[id]; old != nil {
		*state = *old
		state.parts = maps.Clone(old.parts)
	}
	d.next.topics[id] = state
	return state
}

// resolve makes the views of what has changed, and drops what is empty.
func (d *draft) resolve() {
	d.next.broker = setting.ResolveBroker(d.next.layers(d.next.local.nodeID))
	layers := d.next.layers(d.next.local.nodeID)
	for id := range d.dirty {
		state := d.next.topics[id]
		if state.topic.mod == 0 && state.config.mod == 0 && len(state.parts) == 0 {
			delete(d.next.topics, id)
			continue
		}
		state.view = state.makeView(layers)
	}
}

// makeView returns the topic, or nil while it is being created or deleted.
func (t *topicState) makeView(layers setting.Layers) *Topic {
	count := t.topic.record.PartitionCount
	if t.topic.mod == 0 || int(count) > len(t.parts) {
		return nil
	}
	view := &Topic{
		Name: t.name, ID: t.topic.record.ID, Internal: t.topic.record.Internal,
		Configs:    t.config.record.Values,
		CreateTime: time.UnixMilli(t.topic.record.CreateMillis).UTC(),
		Revision:   max(t.topic.mod, t.config.mod),
		Partitions: make([]Partition, 0, len(t.parts)),
	}
	for id := range count {
		part, ok := t.parts[id]
		if !ok {
			return nil
		}
		view.Revision = max(view.Revision, part.mod)
		view.Partitions = append(view.Partitions, partitionOf(id, part))
	}
	layers.Topic = view.Configs
	settings := setting.ResolveTopic(layers)
	view.settings = &settings
	return view
}

func partitionOf(id int32, e entry[partitionRecord]) Partition {
	return Partition{
		ID: id, Leader: e.record.Leader, LeaderEpoch: e.record.LeaderEpoch,
		Replicas: e.record.Replicas, ISR: e.record.ISR, ELR: e.record.ELR,
		Adding: e.record.Adding, Removing: e.record.Removing, Unclean: e.record.Unclean,
		Restored: e.record.Restored, Epoch: e.mod,
	}
}

func recordOf(p Partition) partitionRecord {
	return partitionRecord{
		Version: recordVersion, Replicas: p.Replicas, Leader: p.Leader,
		LeaderEpoch: p.LeaderEpoch, ISR: p.ISR, ELR: p.ELR,
		Adding: p.Adding, Removing: p.Removing, Unclean: p.Unclean, Restored: p.Restored,
	}
}

// own copies a map before its first change.
func own[K comparable, V any](owned *bool, m *map[K]V) {
	if !*owned {
		*m = maps.Clone(*m)
		*owned = true
	}
}
