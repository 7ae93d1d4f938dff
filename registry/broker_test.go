package registry

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

// on returns a registry on a broker.
func on(t testing.TB, conn grpc.ClientConnInterface, changes ...func(*Config)) *rig {
	t.Helper()
	c := DefaultConfig()
	c.Conn = conn
	for _, change := range changes {
		change(&c)
	}
	r, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, r.WaitReady(ctx))
	return &rig{t, r}
}

func TestTheTopicIsMadeForTheFirstSchema(t *testing.T) {
	n := node.Start(t)
	g, other := on(t, n.Conn()), on(t, n.Conn())
	topics := sluicev1.NewTopicServiceClient(n.Conn())
	list, err := topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{})
	require.NoError(t, err)
	assert.Empty(t, list.GetTopics())
	g.ok("GET", "/subjects", "", `[]`)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	other.ok("POST", "/subjects/t/versions", posting(`"int"`), `{"id":2}`)
	reply, err := topics.GetTopic(t.Context(), &sluicev1.GetTopicRequest{Topic: "_schemas"})
	require.NoError(t, err)
	assert.Equal(t, int32(1), reply.GetTopic().GetPartitionCount())
	assert.Equal(t, "compact", reply.GetTopic().GetConfigs()["cleanup.policy"])
	w := g.call("GET", "/v1/metadata/id", "")
	assert.Contains(t, w.Body.String(), `"kafka-cluster":"`)
}

func TestADeletedTopicIsAnEmptyRegistry(t *testing.T) {
	n := node.Start(t)
	g := on(t, n.Conn())
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":2}`)
	_, err := sluicev1.NewTopicServiceClient(n.Conn()).DeleteTopic(t.Context(),
		&sluicev1.DeleteTopicRequest{Topic: "_schemas"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return g.call("GET", "/subjects", "").Body.String() == `[]`
	}, time.Minute, time.Millisecond)
	g.ok("POST", "/subjects/t/versions", posting(`"int"`), `{"id":1}`)
}

func TestManyRegistrarsOnOneBroker(t *testing.T) {
	n := node.Start(t)
	crowd(t, []*rig{on(t, n.Conn()), on(t, n.Conn()), on(t, n.Dial())}, 64, 2)
}

// TestAnsweredSchemasOutliveTheNode stops the registry and its broker in the
// middle of registrations, and looks for every one that was answered.
func TestAnsweredSchemasOutliveTheNode(t *testing.T) {
	n := node.Start(t)
	g := on(t, n.Conn(), func(c *Config) { c.Limits.WriteTimeout = 10 * time.Second })
	answers := make(chan [2]int, 1000)
	enough, registering := make(chan struct{}), make(chan struct{})
	begun := sync.OnceFunc(func() { close(enough) })
	go func() {
		defer close(registering)
		defer begun() // a failure is seen below
		for i := range 1000 {
			w := g.call("POST", fmt.Sprintf("/subjects/s%d/versions", i), posting(distinct(i)))
			var id int
			if _, err := fmt.Sscanf(w.Body.String(), `{"id":%d}`, &id); err != nil {
				return
			}
			answers <- [2]int{i, id}
			if i == 20 {
				begun()
			}
		}
	}()
	<-enough
	n = n.Restart()
	<-registering
	close(answers)
	again := on(t, n.Conn())
	count := 0
	for a := range answers {
		again.ok("GET", fmt.Sprintf("/schemas/ids/%d/schema", a[1]), "", distinct(a[0]))
		again.ok("GET", fmt.Sprintf("/subjects/s%d/versions", a[0]), "", `[1]`)
		count++
	}
	assert.GreaterOrEqual(t, count, 20)
	assert.Equal(t, tell(again), tell(on(t, n.Conn())))
}

func TestLargeSchemasAndEmptyTopics(t *testing.T) {
	n := node.Start(t)
	g := on(t, n.Conn())
	doc := strings.Repeat(`\"`, 1<<18)
	large := `{"type":"record","name":"L","doc":"` + doc + `","fields":[]}`
	g.ok("POST", "/subjects/s/versions", posting(large), `{"id":1}`)
	on(t, n.Conn()).ok("GET", "/schemas/ids/1/schema", "",
		large)
}

func TestATopicOfAnotherShapeIsRefused(t *testing.T) {
	n := node.Start(t)
	_, err := sluicev1.NewTopicServiceClient(n.Conn()).CreateTopic(t.Context(),
		&sluicev1.CreateTopicRequest{Topic: "_schemas", PartitionCount: 2})
	require.NoError(t, err)
	c := DefaultConfig()
	c.Conn = n.Conn()
	r, err := New(c)
	require.NoError(t, err)
	defer r.Close()
	require.Eventually(t, func() bool {
		return r.Ready() != nil && strings.Contains(r.Ready().Error(), "has 2 partitions")
	}, time.Minute, time.Millisecond)
}
