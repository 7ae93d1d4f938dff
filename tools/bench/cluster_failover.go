package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	failoverKills  = 10          // rounds with kill -9, of each kind
	failoverPauses = 3           // rounds with SIGSTOP
	watchedTime    = time.Second // that all nodes have been up, and watched, before a fault
	writeEvery     = 10 * time.Millisecond
	failoverTime   = time.Minute // more is a failure
)

// measureFailovers kills or stops the leader of a partition, and measures how long
// it takes until a write to that partition, begun afterwards by way of another
// node, is acknowledged with acks=all. Writes begin every 10 ms, whatever became of
// those before.
func measureFailovers(ctx context.Context, t *trio, _ int) error {
	const topic = "lead"
	if err := t.createTopic(ctx, topic, clusterPartitions, clusterNodes, 2); err != nil {
		return err
	}
	kinds := []struct {
		name       string
		rounds     int
		controller bool
		pause      bool
		topic      bool // what is waited for is a new topic, which the controller makes
	}{
		{"kill -9 of the leader", failoverKills, false, false, false},
		{"kill -9 of the leader, which is the controller too", failoverKills, true, false, false},
		{"SIGSTOP of the leader", failoverPauses, false, true, false},
		{"SIGSTOP of the leader, which is the controller too", failoverPauses, true, true, false},
		{"SIGSTOP of the controller, to the next new topic", failoverPauses, true, true, true},
	}
	head("fault", "rounds", "to the next acknowledged write, s: median (lowest to highest)")
	for _, kind := range kinds {
		var took []float64
		for round := range kind.rounds {
			told("%s, round %d of %d", kind.name, round+1, kind.rounds)
			once, err := t.failover(ctx, topic, kind.controller, kind.pause, kind.topic)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			took = append(took, once.Seconds())
		}
		show(kind.name, fmt.Sprint(kind.rounds), between("%.2f", took))
	}
	return nil
}

// failover breaks the leader of one partition and repairs the cluster afterwards.
func (t *trio) failover(
	ctx context.Context, topic string, controller, pause, create bool,
) (time.Duration, error) {
	if err := t.sluice(ctx, nil, "cluster", "elect-leaders", topic); err != nil {
		return 0, err
	}
	<-time.After(watchedTime)
	partition, leader, err := t.leaderOf(ctx, topic, controller)
	if err != nil {
		return 0, err
	}
	by, err := grpc.NewClient(t.grpc[(leader+1)%clusterNodes],
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer by.Close()
	if _, err := write(ctx, by, topic, partition); err != nil { // it is connected, and works
		return 0, err
	}
	again := func(ctx context.Context) error {
		_, err := write(ctx, by, topic, partition)
		return err
	}
	if create {
		again = createTopics(by)
	}
	process := t.processes[leader].Process
	begun := time.Now()
	if pause {
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			return 0, err
		}
	} else {
		t.kill(leader)
	}
	took, err := next(ctx, again, begun)
	if pause {
		err = errors.Join(err, process.Signal(syscall.SIGCONT))
	} else {
		err = errors.Join(err, t.start(ctx, leader))
	}
	return took, errors.Join(err, t.awaitInSync(ctx))
}

// leaderOf returns a partition whose leader is the controller, or is not.
func (t *trio) leaderOf(
	ctx context.Context, topic string, controller bool,
) (partition int32, leader int, err error) {
	var info clusterInfo
	var described struct {
		Partitions []struct {
			ID     int32 `json:"partition"`
			Leader int   `json:"leader_id"`
		} `json:"partitions"`
	}
	if err := t.sluice(ctx, &info, "cluster", "info"); err != nil {
		return 0, 0, err
	}
	if err := t.sluice(ctx, &described, "topic", "describe", topic); err != nil {
		return 0, 0, err
	}
	for _, p := range described.Partitions {
		if p.Leader >= 0 && (p.Leader == info.Controller) == controller {
			return p.ID, p.Leader, nil
		}
	}
	return 0, 0, fmt.Errorf("no partition of %+v has such a leader, the controller is %d",
		described.Partitions, info.Controller)
}

// write writes a record with acks=all.
func write(
	ctx context.Context, by *grpc.ClientConn, topic string, partition int32,
) (*sluicev1.ProduceResponse, error) {
	return sluicev1.NewLogServiceClient(by).Produce(ctx, &sluicev1.ProduceRequest{
		Topic: topic, Partition: &partition, Acks: sluicev1.Acks_ACKS_ALL,
		Records: []*sluicev1.ProduceRecord{{Value: []byte("is anyone there")}},
	})
}

// createTopics returns a function that makes another topic each time.
func createTopics(by *grpc.ClientConn) func(context.Context) error {
	topics, made := sluicev1.NewTopicServiceClient(by), time.Now().UnixNano()
	var count atomic.Int64
	return func(ctx context.Context) error {
		_, err := topics.CreateTopic(ctx, &sluicev1.CreateTopicRequest{
			Topic: fmt.Sprintf("made-%d-%d", made, count.Add(1)), PartitionCount: 1,
			ReplicationFactor: 1,
		})
		return err
	}
}

// next returns how long after begun a call succeeded.
func next(
	ctx context.Context, call func(context.Context) error, begun time.Time,
) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, failoverTime)
	var writes sync.WaitGroup
	defer writes.Wait()
	defer cancel()
	acknowledged := make(chan time.Duration, 1)
	soon := time.NewTicker(writeEvery)
	defer soon.Stop()
	for {
		writes.Go(func() {
			if call(ctx) != nil {
				return // the next one may
			}
			select {
			case acknowledged <- time.Since(begun):
			default:
			}
		})
		select {
		case took := <-acknowledged:
			return took, nil
		case <-soon.C:
		case <-ctx.Done():
			fmt.Fprintln(os.Stderr, "no call succeeded")
			return 0, ctx.Err()
		}
	}
}
