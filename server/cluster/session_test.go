package cluster

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestALeaderIsFencedBeforeAnotherTakesOver, however short the session is, and also
// where its clock is a tenth too fast or too slow: it is cut off from etcd at any
// time of a renewal, and another leads soon after the session is over (B2, B3).
func TestALeaderIsFencedBeforeAnotherTakesOver(t *testing.T) {
	for _, session := range []time.Duration{2 * time.Second, 3 * time.Second, 9 * time.Second} {
		for _, percent := range []time.Duration{90, 100, 110} {
			t.Run(fmt.Sprintf("%v, clock at %d %%", session, percent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { cutOffLeaders(t, session, percent) })
			})
		}
	}
}

func cutOffLeaders(t *testing.T, session, percent time.Duration) {
	begun := time.Now()
	all := startTrio(t, func(c *Config) {
		setSession(c, session)
		c.Clock = func() time.Duration { return time.Since(begun) * percent / 100 }
	})
	for round := range time.Duration(10) {
		old := all.nodes[round%3]
		for _, n := range all.nodes {
			require.False(t, n.Fenced(), "all nodes are heard of")
		}
		name := fmt.Sprint("t", int(round))
		create(t, all.nodes, TopicSpec{Name: name, PartitionCount: 3, ReplicationFactor: 3})
		synctest.Wait()
		partition := led(t, old, name)
		time.Sleep(renewTime(session) * round / 10)
		all.links[old.NodeID()].Set(true, 0)
		other, cut := all.nodes[(old.NodeID()+1)%3], time.Now()
		fenced := false
		for leads(other, name, partition) == old.NodeID() {
			require.Less(t, time.Since(cut), session+time.Second)
			fenced = old.Fenced() // at this moment another one may lead the next
			time.Sleep(time.Millisecond)
		}
		assert.True(t, fenced, "another leads after %v", time.Since(cut))
		assert.Greater(t, time.Since(cut), session*7/10)
		all.links[old.NodeID()].Set(false, 0)
		time.Sleep(2 * session)
	}
}

// led returns a partition that a node leads.
func led(t *testing.T, c *Cluster, topic string) int32 {
	t.Helper()
	found, ok := c.Topic(topic)
	require.True(t, ok)
	for _, p := range found.Partitions {
		if p.Leader == c.NodeID() {
			return p.ID
		}
	}
	require.Fail(t, "the node leads nothing")
	return 0
}

// leads returns who leads a partition, as far as a node knows.
func leads(c *Cluster, topic string, partition int32) int32 {
	found, _ := c.Topic(topic)
	return found.Partitions[partition].Leader
}

// TestALostRenewalFencesNobody: an etcd that is away for a third of the session, as
// while it elects a leader, goes unnoticed.
func TestALostRenewalFencesNobody(t *testing.T) {
	for _, session := range []time.Duration{2 * time.Second, 3 * time.Second, 9 * time.Second} {
		t.Run(session.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := startTrio(t, func(c *Config) { setSession(c, session) })
				for round := range time.Duration(20) {
					time.Sleep(session + session*round/20)
					for _, link := range all.links {
						link.Set(true, 0)
					}
					time.Sleep(session / 3)
					for _, link := range all.links {
						link.Set(false, 0)
					}
					for end := time.Now().Add(session); time.Now().Before(end); {
						for _, n := range all.nodes {
							require.False(t, n.Fenced())
						}
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		})
	}
}
