package cluster

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

func TestTopicNames(t *testing.T) {
	for _, name := range []string{
		"a", "A.b_c-9", "...", "_schemas", "__consumer_offsets", strings.Repeat("x", 249),
	} {
		assert.NoError(t, CheckTopicName(name), name)
	}
	for name, wrong := range map[string]string{
		"": "empty", ".": `"." or ".."`, "..": `"." or ".."`,
		"a/b": `"/" at position 2`, "../x": `"/" at position 3`, "a b": `" " at position 2`,
		"éa": `"é" at position 1`, "a\x00b": `"\x00" at position 2`,
		"a%2fb": `"%" at position 2`, "\xff": `"\xff" at position 1`,
		strings.Repeat("x", 250): "250 characters, at most 249",
	} {
		err := CheckTopicName(name)
		require.ErrorIs(t, err, fault.InvalidTopic, "%q", name)
		assert.Contains(t, err.Error(), wrong, "%q", name)
	}
}

// withBrokers returns a snapshot of nodes that are alive and admitted, in racks
// of the given names.
func withBrokers(tb testing.TB, racks ...string) *Snapshot {
	tb.Helper()
	var events []event
	put := func(key string, mod int64, record any) {
		events = append(events, event{key, []byte(encode(record)), mod, mod})
	}
	for i, rack := range racks {
		id, mod := int32(i), int64(i+1)
		put(keyEpoch(id), mod, epochRecord{Version: 1})
		put(keyLive(id), mod, liveRecord{Version: 1, Rack: rack, State: BrokerRunning})
		put(keyAdmit(id), mod, admitRecord{Version: 1, Epoch: mod})
	}
	s, err := newSnapshot(local{}).apply(events, 100)
	require.NoError(tb, err)
	return s
}

// withTopic adds a topic as createBatches writes it.
func withTopic(tb testing.TB, s *Snapshot, spec TopicSpec) *Snapshot {
	tb.Helper()
	t, err := s.planCreate(spec, newID(), time.UnixMilli(5))
	require.NoError(tb, err)
	next, err := s.apply(topicEvents(t, s.revision+1), s.revision+1)
	require.NoError(tb, err)
	return next
}

func topicEvents(t Topic, mod int64) []event {
	var events []event
	put := func(key string, record any) {
		events = append(events, event{key, []byte(encode(record)), mod, mod})
	}
	for _, p := range t.Partitions {
		put(keyPartition(t.ID, p.ID), recordOf(p))
	}
	put(keyTopicConfig(t.ID), configRecord{Version: 1, Values: t.Configs})
	put(keyTopic(t.Name), topicRecord{
		Version: 1, ID: t.ID, PartitionCount: int32(len(t.Partitions)), Internal: t.Internal,
		CreateMillis: t.CreateTime.UnixMilli(),
	})
	return events
}

func TestPlanCreateRefuses(t *testing.T) {
	s := withTopic(t, withBrokers(t, "", "", ""), TopicSpec{Name: "a.b"})
	tests := map[string]struct {
		spec TopicSpec
		want *fault.Fault
		text string
	}{
		"bad name":      {TopicSpec{Name: "a/b"}, fault.InvalidTopic, ""},
		"exists":        {TopicSpec{Name: "a.b"}, fault.TopicAlreadyExists, "a.b"},
		"collision":     {TopicSpec{Name: "a_b"}, fault.InvalidTopic, "existing topic a.b"},
		"reserved name": {TopicSpec{Name: "__x"}, fault.AuthorizationFailed, "__x"},
		"negative count": {
			TopicSpec{Name: "t", PartitionCount: -1}, fault.InvalidPartitions, "not -1",
		},
		"huge count": {
			TopicSpec{Name: "t", PartitionCount: math.MaxInt32},
			fault.InvalidPartitions,
			"topic.max.partitions",
		},
		"too many in all": {
			TopicSpec{Name: "t", PartitionCount: 10_000}, fault.PolicyViolation, "max.partitions",
		},
		"too many replicas": {
			TopicSpec{Name: "t", ReplicationFactor: 4},
			fault.InvalidReplicationFactor,
			"3 nodes are available",
		},
		"negative replicas": {
			TopicSpec{Name: "t", ReplicationFactor: -1}, fault.InvalidReplicationFactor, "",
		},
		"unknown setting": {
			TopicSpec{Name: "t", Configs: map[string]string{"x": "1"}}, fault.InvalidConfig, "x",
		},
		"bad setting": {
			TopicSpec{Name: "t", Configs: map[string]string{"retention.ms": "-2"}},
			fault.InvalidConfig, "-1",
		},
		"never writable": {
			TopicSpec{Name: "t", Configs: map[string]string{"min.insync.replicas": "2"}},
			fault.InvalidConfig, "only 1 replicas",
		},
		"uneven assignment": {
			TopicSpec{Name: "t", Assignment: [][]int32{{0, 1}, {0}}},
			fault.InvalidReplicaAssignment, "partition 1 has 1 replicas",
		},
		"empty assignment": {
			TopicSpec{Name: "t", Assignment: [][]int32{{}}}, fault.InvalidReplicaAssignment, "",
		},
		"assignment to nobody": {
			TopicSpec{Name: "t", Assignment: [][]int32{{0, 9}}},
			fault.InvalidReplicaAssignment,
			"no available node 9",
		},
		"assignment twice": {
			TopicSpec{Name: "t", Assignment: [][]int32{{2, 2}}},
			fault.InvalidReplicaAssignment,
			"node 2 is there twice",
		},
		"assignment and count": {
			TopicSpec{Name: "t", Assignment: [][]int32{{2}}, PartitionCount: 2},
			fault.InvalidReplicaAssignment, "partition_count is 2",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.planCreate(test.spec, newID(), time.Now())
			require.ErrorIs(t, err, test.want)
			assert.Contains(t, err.Error(), test.text)
		})
	}
}

func TestPlanCreateTakesDefaultsAndAssignments(t *testing.T) {
	s := withBrokers(t, "", "", "")
	topic, err := s.planCreate(TopicSpec{Name: "t"}, newID(), time.Now())
	require.NoError(t, err)
	assert.Len(t, topic.Partitions, 1)
	assert.Equal(t, 1, topic.ReplicationFactor())

	spec := TopicSpec{Name: "t", Assignment: [][]int32{{2, 0}, {1, 2}}}
	topic, err = s.planCreate(spec, newID(), time.Now())
	require.NoError(t, err)
	assert.Equal(t, Partition{ID: 1, Leader: 1, Replicas: []int32{1, 2}, ISR: []int32{1, 2}},
		topic.Partitions[1])

	internal := TopicSpec{Name: "__consumer_offsets", Internal: true, ReplicationFactor: 5}
	topic, err = s.planCreate(internal, newID(), time.Now())
	require.NoError(t, err)
	assert.Equal(t, 3, topic.ReplicationFactor(), "as many as there are nodes")
}

func TestUnadmittedAndDrainingNodesGetNoReplicas(t *testing.T) {
	s := withBrokers(t, "", "")
	s, err := s.apply([]event{
		{keyLive(1), []byte(encode(liveRecord{Version: 1, State: BrokerDraining})), 200, 2},
		{keyEpoch(2), []byte(encode(epochRecord{Version: 1})), 201, 201},
		{keyLive(2), []byte(encode(liveRecord{Version: 1, State: BrokerRunning})), 201, 201},
	}, 201)
	require.NoError(t, err)
	assert.Len(t, s.Brokers(), 3)
	_, err = s.planCreate(TopicSpec{Name: "t", ReplicationFactor: 2}, newID(), time.Now())
	assert.ErrorIs(t, err, fault.InvalidReplicationFactor)
}

func TestPlacementIsEvenAndSpreadOverRacks(t *testing.T) {
	tests := []struct {
		racks    []string
		replicas int
	}{
		{[]string{""}, 1},
		{[]string{"", "", ""}, 2},
		{[]string{"", "", "", "", ""}, 3},
		{[]string{"a", "a", "b", "b", "c", "c"}, 3},
		{[]string{"a", "a", "a", "b"}, 2},
		{[]string{"a", "b"}, 2},
	}
	for _, test := range tests {
		brokers := withBrokers(t, test.racks...).Brokers()
		for _, seed := range []uint32{0, 1, 77, math.MaxUint32} {
			t.Run(fmt.Sprint(test.racks, test.replicas, seed), func(t *testing.T) {
				n := len(brokers)
				count := int32(n * 12)
				all := place(brokers, 0, count, test.replicas, seed)
				require.Len(t, all, int(count))
				leads := make([]int, n)
				racks := map[string]bool{}
				for _, rack := range test.racks {
					racks[rack] = rack != ""
				}
				for p, nodes := range all {
					require.Len(t, nodes, test.replicas)
					leads[nodes[0]]++
					seen, seenRacks := map[int32]bool{}, map[string]bool{}
					for _, node := range nodes {
						seen[node], seenRacks[test.racks[node]] = true, true
					}
					require.Len(t, seen, test.replicas, "partition %d: %v", p, nodes)
					if racks[test.racks[0]] {
						require.Len(t, seenRacks, min(len(racks), test.replicas), "%v", nodes)
					}
				}
				for _, lead := range leads {
					assert.Equal(t, 12, lead, "%v", leads)
				}
				// Growing a topic goes on where creating it has stopped.
				rest := place(brokers, 5, count-5, test.replicas, seed)
				assert.Equal(t, all[5:], rest)
			})
		}
	}
}

func TestElection(t *testing.T) {
	live := func(nodes ...int32) func(int32) bool {
		return func(n int32) bool {
			return slices.Contains(nodes, n)
		}
	}
	three := []int32{0, 1, 2}
	tests := []struct {
		name   string
		before Partition
		node   int32 // that starts anew
		live   func(int32) bool
		minISR int
		want   Partition
	}{
		{
			"the only replica leads again, under a new epoch",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: []int32{0}, ISR: []int32{0}},
			0, live(0), 1,
			Partition{Leader: 0, LeaderEpoch: 5, Replicas: []int32{0}, ISR: []int32{0}},
		},
		{
			"without a successor it leads no more, under a new epoch",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: []int32{0}, ISR: []int32{0}},
			0, live(), 1,
			Partition{
				Leader: NoLeader, LeaderEpoch: 5, Replicas: []int32{0}, ISR: []int32{},
				ELR: []int32{0},
			},
		},
		{
			"another in-sync replica takes over",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			0, live(0, 1, 2), 2,
			Partition{Leader: 1, LeaderEpoch: 5, Replicas: three, ISR: []int32{1, 2}},
		},
		{
			"a follower leaves the in-sync set, and the epoch stays",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			2, live(0, 1, 2), 2,
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0, 1}},
		},
		{
			"below min.insync.replicas it stays eligible (M1)",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0, 2}},
			2, live(0, 2), 2,
			Partition{
				Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0},
				ELR: []int32{2},
			},
		},
		{
			"one that is not in sync changes nothing",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0, 1}},
			2, live(0, 1, 2), 2,
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0, 1}},
		},
		{
			"an eligible one leads when none is in sync (C2)",
			Partition{Leader: NoLeader, LeaderEpoch: 4, Replicas: three, ELR: []int32{1, 2}},
			2, live(2), 1,
			Partition{Leader: 2, LeaderEpoch: 5, Replicas: three, ISR: []int32{2}},
		},
		{
			"one that was never in sync must not lead",
			Partition{Leader: NoLeader, LeaderEpoch: 4, Replicas: three, ELR: []int32{1}},
			2, live(2), 1,
			Partition{Leader: NoLeader, LeaderEpoch: 4, Replicas: three, ELR: []int32{1}},
		},
		{
			"an in-sync one that is away goes before an eligible one that is here",
			Partition{
				Leader: NoLeader, LeaderEpoch: 4, Replicas: three, ISR: []int32{0},
				ELR: []int32{1},
			},
			1, live(1), 2,
			Partition{
				Leader: NoLeader, LeaderEpoch: 4, Replicas: three, ISR: []int32{0},
				ELR: []int32{1},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := readmit(test.before, test.node, false, test.live, test.minISR)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestPlanAdmitIsDoneOnce(t *testing.T) {
	s := withTopic(t, withBrokers(t, ""), TopicSpec{Name: "t", PartitionCount: 3})
	changes := s.planAdmit(0)
	require.Len(t, changes, 3)
	assert.EqualValues(t, 1, changes[2].next.LeaderEpoch)
	assert.Equal(t, s.revision, changes[2].old.Epoch)
}

func TestConfigErrorsNameTheFlag(t *testing.T) {
	tests := map[string]func(*Config){
		"--data-dir":       func(c *Config) { c.DataDir = "" },
		"--node-id":        func(c *Config) { c.NodeID = -1 },
		"--rack":           func(c *Config) { c.Rack = "a\nb" },
		"--advertise-grpc": func(c *Config) { c.AdvertiseGRPC = "host" },
		"--advertise-http": func(c *Config) { c.AdvertiseHTTP = ":80" },
		"--etcd-endpoints": func(c *Config) { c.Endpoints = []string{"ftp://x:1"} },
		"--etcd-prefix":    func(c *Config) { c.Prefix = "sluice/" },
		"--etcd-cert":      func(c *Config) { c.Cert, c.Endpoints = "x", []string{"a:1"} },
		"--etcd-ca":        func(c *Config) { c.CA, c.Endpoints = "/none", []string{"a:1"} },
		"--etcd-password":  func(c *Config) { c.Password = "x" },
		"an external etcd": func(c *Config) { c.Username = "x" },
		"--set":            func(c *Config) { c.Static = map[string]string{"num.partition": "1"} },
		"from 1 up":        func(c *Config) { c.Static = map[string]string{"num.partitions": "0"} },
		"a multiple of":    func(c *Config) { setSession(c, 2500*time.Millisecond) },
	}
	for want, change := range tests {
		cfg := DefaultConfig()
		require.NoError(t, cfg.Validate())
		change(&cfg)
		assert.ErrorContains(t, cfg.Validate(), want)
	}
	for _, endpoint := range []string{"a:1", "http://a:1", "https://[::1]:2", "unix:///x/y"} {
		cfg := DefaultConfig()
		cfg.Endpoints = []string{endpoint}
		assert.NoError(t, cfg.Validate(), endpoint)
	}
}
