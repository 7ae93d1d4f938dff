package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	spreadTries    = 50
)

// fault is one way to lose the leader of a partition.
type fault struct {
	name   string
	rounds int
	role   role // what else the node is
	pause  bool // with SIGSTOP, instead of kill -9
	topic  bool // what is waited for is a new topic, which the controller makes
}

// role is what a node is besides the leader of partitions.
type role int

const (
	plain      role = iota // neither of the others
	controller             // and not etcdLeader
	etcdLeader             // and not controller
)

var (
	killed = []fault{
		{"kill -9 of the leader", failoverKills, plain, false, false},
		{
			"kill -9 of the leader, which is the controller too", failoverKills, controller, false,
			false,
		},
	}
	stopped = []fault{
		{"SIGSTOP of the leader", failoverPauses, plain, true, false},
		{
			"SIGSTOP of the leader, which is the controller too", failoverPauses, controller, true,
			false,
		},
		{"SIGSTOP of the leader, which leads etcd too", failoverPauses, etcdLeader, true, false},
	}
	controllerStopped = []fault{
		{
			"SIGSTOP of the controller, to the next new topic", failoverPauses, controller, true,
			true,
		},
	}
)

// failovers returns what kills or stops the leader of a partition, and measures how
// long it takes until a write to that partition, begun afterwards by way of another
// node, is acknowledged with acks=all. Writes begin every 10 ms, whatever became of
// those before.
func failovers(title string, faults ...fault) func(context.Context, *trio, int) error {
	return func(ctx context.Context, t *trio, _ int) error {
		const topic = "lead"
		if err := t.createTopic(ctx, topic, clusterPartitions, clusterNodes, 2); err != nil {
			return err
		}
		head("fault, "+title, "rounds",
			"to the next acknowledged write, s: median (lowest to highest)")
		for _, f := range faults {
			var took []float64
			for round := range f.rounds {
				told("%s, round %d of %d", f.name, round+1, f.rounds)
				once, err := t.failover(ctx, topic, f)
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
				took = append(took, once.Seconds())
			}
			show(f.name, fmt.Sprint(f.rounds), between("%.2f", took))
		}
		return nil
	}
}

// failover breaks the leader of one partition and repairs the cluster afterwards.
func (t *trio) failover(ctx context.Context, topic string, f fault) (time.Duration, error) {
	roles, err := t.spreadRoles(ctx)
	if err != nil {
		return 0, err
	}
	if err := t.sluice(ctx, nil, "cluster", "elect-leaders", topic); err != nil {
		return 0, err
	}
	<-time.After(watchedTime)
	leader := roles[f.role]
	partition, err := t.partitionOf(ctx, topic, leader)
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
	if f.topic {
		again = createTopics(by)
	}
	process := t.processes[leader].Process
	begun := time.Now()
	if f.pause {
		if err := freeze(process); err != nil {
			return 0, err
		}
	} else {
		t.kill(leader)
	}
	took, err := next(ctx, again, begun)
	if f.pause {
		err = errors.Join(err, process.Signal(syscall.SIGCONT))
	} else {
		err = errors.Join(err, t.start(ctx, leader))
	}
	return took, errors.Join(err, t.awaitInSync(ctx))
}

// freeze stops a process, and returns once the system says that it is stopped: until
// then it may answer.
func freeze(process *os.Process) error {
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a system without
		}
		if err != nil || bytes.Contains(stat, []byte(") T ")) {
			return err
		}
		<-time.After(time.Millisecond)
	}
}

// spreadRoles returns which node has which role. As long as one has two, it is
// started again.
func (t *trio) spreadRoles(ctx context.Context) (map[role]int, error) {
	for range spreadTries {
		var info clusterInfo
		if err := t.sluice(ctx, &info, "cluster", "info"); err != nil {
			return nil, err
		}
		var quorum []struct {
			ID     int  `json:"broker_id"`
			Leader bool `json:"leader"`
		}
		if err := t.sluice(ctx, &quorum, "cluster", "quorum"); err != nil {
			return nil, err
		}
		leads := -1
		for _, m := range quorum {
			if m.Leader {
				leads = m.ID
			}
		}
		if leads >= 0 && info.Controller >= 0 && leads != info.Controller {
			return map[role]int{
				controller: info.Controller, etcdLeader: leads,
				plain: clusterNodes - info.Controller - leads, // of 0, 1 and 2
			}, nil
		}
		if leads >= 0 && leads == info.Controller {
			if _, err := t.stop(leads); err != nil {
				return nil, err
			}
			if err := t.start(ctx, leads); err != nil {
				return nil, err
			}
		}
		if err := t.awaitInSync(ctx); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the controller leads etcd, whoever it is")
}

// partitionOf returns a partition that a node leads.
func (t *trio) partitionOf(ctx context.Context, topic string, leader int) (int32, error) {
	var described struct {
		Partitions []struct {
			ID     int32 `json:"partition"`
			Leader int   `json:"leader_id"`
		} `json:"partitions"`
	}
	if err := t.sluice(ctx, &described, "topic", "describe", topic); err != nil {
		return 0, err
	}
	for _, p := range described.Partitions {
		if p.Leader == leader {
			return p.ID, nil
		}
	}
	return 0, fmt.Errorf("node %d leads none of %+v", leader, described.Partitions)
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
