// Package groups shows what a consumer group keeps while its members come, go and die: every record
// comes at least once, the records of a key come in order, and what the group has stored as done
// does not come again.
package groups

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

func TestMain(m *testing.M) {
	if becameMember() {
		return
	}
	goleak.VerifyTestMain(m)
}

// runner is a member that runs in this process.
type runner struct {
	client *sluice.Client
	leave  context.CancelFunc
	dead   chan struct{} // closed when it must not say anything any more
	ended  chan error
}

// start starts a member, which tells the ledger.
func start(t *testing.T, address, name string, l *ledger) *runner {
	t.Helper()
	client, err := sluice.Dial(address)
	require.NoError(t, err)
	ctx, leave := context.WithCancel(t.Context())
	r := &runner{
		client: client, leave: leave, dead: make(chan struct{}), ended: make(chan error, 1),
	}
	go func() {
		r.ended <- consume(ctx, client, name, func(e event) {
			select {
			case <-r.dead:
			default:
				l.take(e)
			}
		})
	}()
	return r
}

// stop lets the member leave.
func (r *runner) stop(t *testing.T) {
	t.Helper()
	r.leave()
	assert.NoError(t, <-r.ended)
	assert.NoError(t, r.client.Close())
}

// kill ends the member without a word to the group, as the death of its process would.
func (r *runner) kill() {
	close(r.dead)
	_ = r.client.Close()
	<-r.ended // an error: it was killed
	r.leave()
}

func TestFlightsThroughAGroupWhoseMembersJoinLeaveAndDie(t *testing.T) {
	const count, steps = 20_000, 5
	n := node.Start(t, node.WithSettings(map[string]string{
		"group.min.session.timeout.ms": "1000", "group.consumer.heartbeat.interval.ms": "500",
	}))
	client, err := sluice.Dial(n.Address())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CreateTopic(t.Context(),
		sluice.NewTopic{Name: topic, Partitions: partitions})
	require.NoError(t, err)
	keys, values, err := flights(count)
	require.NoError(t, err)
	producer, err := client.NewProducer()
	require.NoError(t, err)
	l := newLedger()
	members := make([]*runner, 3)
	for i := range members {
		members[i] = start(t, n.Address(), fmt.Sprintf("m%d", i), l)
	}
	for step := range steps {
		first, end := step*count/steps, (step+1)*count/steps
		require.NoError(t, produce(t.Context(), producer, l, keys, values, first, end))
		// Something happens in the middle of reading what was written.
		half := (first + end) / 2
		progress(t, l, func(_, delivered int) bool { return delivered >= half })
		at := step % len(members)
		switch step {
		case 0, 3:
			members[at].kill()
			members[at] = start(t, n.Address(), fmt.Sprintf("m%d.%d", at, step), l)
		case 1:
			members[at].stop(t)
			members[at] = start(t, n.Address(), fmt.Sprintf("m%d.%d", at, step), l)
		case 2:
			members = append(members, start(t, n.Address(), "one more", l))
		}
	}
	require.NoError(t, producer.Close())
	progress(t, l, func(_, delivered int) bool { return delivered == count })
	checkStored(t, client)
	for _, m := range members {
		m.stop(t)
	}
	require.NoError(t, l.check())
	t.Logf("%d of %d records came again, after members had died", l.again(), count)
	checkLeft(t, client)
}

// progress waits until so much was produced and has come.
func progress(t *testing.T, l *ledger, enough func(produced, delivered int) bool) {
	t.Helper()
	stop := make(chan struct{})
	limit := time.AfterFunc(2*time.Minute, func() { close(stop) })
	defer limit.Stop()
	if !l.wait(stop, enough) {
		t.Fatalf("no progress: %v", l.check())
	}
}

// checkStored wants the group to have stored the end of every partition. A member that is
// told to stop stores no more, also not what it has just told.
func checkStored(t *testing.T, client *sluice.Client) {
	t.Helper()
	eventually(t, client, func(t *assert.CollectT, described *sluicev1.DescribeGroupResponse) {
		for _, p := range described.GetPartitions() {
			assert.Zero(t, p.GetLag(), "partition %d", p.GetPartition())
		}
	})
}

// checkLeft wants the group to have no members, and still to have stored all.
func checkLeft(t *testing.T, client *sluice.Client) {
	t.Helper()
	eventually(t, client, func(t *assert.CollectT, described *sluicev1.DescribeGroupResponse) {
		assert.Empty(t, described.GetMembers(), "those that were killed are taken for dead")
	})
	checkStored(t, client)
}

// eventually waits until the group is as it is to be.
func eventually(
	t *testing.T, client *sluice.Client, is func(*assert.CollectT, *sluicev1.DescribeGroupResponse),
) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		described, err := client.DescribeGroup(context.Background(), group)
		require.NoError(t, err)
		is(t, described)
	}, time.Minute, 100*time.Millisecond)
}

// TestTheLedgerSeesWhatIsWrong tells it of each wrong that it is there to see.
func TestTheLedgerSeesWhatIsWrong(t *testing.T) {
	assigned := func(member string, offset int64) event {
		return event{Member: member, Kind: "assigned", Offset: offset}
	}
	record := func(member string, offset int64, n int) event {
		return event{Member: member, Kind: "record", Offset: offset, Key: "SFO", N: n}
	}
	for want, events := range map[string][]event{
		"record 3 was produced and never came": {assigned("a", -1), record("a", 0, 1)},
		"which it does not own":                {record("a", 0, 1)},
		"begins partition 0 at offset 4, and the group had stored 5": {
			assigned("a", 5), record("a", 4, 1),
		},
		"reads offset 2 of partition 0 after 0": {
			assigned("a", -1), record("a", 0, 1), record("a", 2, 2),
		},
		"record 1 of key SFO comes after record 2": {
			assigned("a", -1), record("a", 0, 2), record("a", 1, 1),
		},
		"a had stored 9, and b began at 5": {
			assigned("a", 2), {Member: "a", Kind: "committed", Offset: 9}, assigned("b", 5),
		},
	} {
		l := newLedger()
		l.produce(3)
		for _, e := range events {
			l.take(e)
		}
		assert.ErrorContains(t, l.check(), want)
	}
}
