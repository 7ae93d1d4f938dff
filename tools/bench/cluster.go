package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clusterNodes is how many nodes a measured cluster has.
const clusterNodes = 3

// trio is a cluster of three nodes on this machine, on free ports.
type trio struct {
	binary, dir string
	grpc, peers [clusterNodes]string
	processes   [clusterNodes]*exec.Cmd
	settings    []string
}

// clusterParts are what benchCluster measures, in order, each on a cluster of its
// own.
var clusterParts = []struct {
	name     string
	measure  func(ctx context.Context, t *trio, rounds int) error
	settings []string
}{
	{"rates", measureRates, nil},
	{"failover", failovers("sessions of 9 s",
		slices.Concat(killed, stopped, controllerStopped)...), nil},
	{
		"failover", failovers("sessions of 3 s", stopped...),
		[]string{"broker.session.timeout.ms=3000"},
	},
	{
		"failover", failovers("sessions of 2 s", stopped...),
		[]string{"broker.session.timeout.ms=2000"},
	},
	{"catchup", measureCatchUp, nil},
	{"partitions", measurePartitions, nil},
}

// benchCluster measures three processes: replication, what a lost node costs, how
// fast one comes back, and what many partitions cost. Only names parts, comma
// between; empty is all.
func benchCluster(ctx context.Context, binary string, rounds int, only string) error {
	for _, part := range clusterParts {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := withTrio(ctx, binary, part.settings, func(t *trio) error {
			return part.measure(ctx, t, rounds)
		}); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// withTrio runs fn with a new cluster that has settings, each name=value.
func withTrio(
	ctx context.Context, binary string, settings []string, fn func(t *trio) error,
) error {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &trio{binary: binary, dir: dir, settings: settings}
	addresses, err := freeAddresses(2 * clusterNodes)
	if err != nil {
		return err
	}
	copy(t.grpc[:], addresses)
	copy(t.peers[:], addresses[clusterNodes:])
	defer t.killAll()
	if err := t.startAll(ctx); err != nil {
		return err
	}
	return fn(t)
}

// freeAddresses returns addresses of the loopback that nobody listens on.
func freeAddresses(count int) (addresses []string, err error) {
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// startAll starts all nodes: each waits for the others.
func (t *trio) startAll(ctx context.Context) error {
	ready := make([]func() error, clusterNodes)
	for id := range clusterNodes {
		var err error
		if ready[id], err = t.launch(ctx, id); err != nil {
			return err
		}
	}
	for _, wait := range ready {
		if err := wait(); err != nil {
			return err
		}
	}
	return t.awaitInSync(ctx)
}

// start starts one node and returns when it says that it is ready.
func (t *trio) start(ctx context.Context, id int) error {
	ready, err := t.launch(ctx, id)
	if err != nil {
		return err
	}
	return ready()
}

// launch starts a node; what it returns waits until that is ready.
func (t *trio) launch(ctx context.Context, id int) (ready func() error, err error) {
	var founders []string
	for n, peer := range t.peers {
		founders = append(founders, fmt.Sprintf("%d=%s", n, peer))
	}
	c := exec.CommandContext(ctx, t.binary, "serve", "--node-id", strconv.Itoa(id),
		"--data-dir", filepath.Join(t.dir, strconv.Itoa(id)), "--grpc-listen", t.grpc[id],
		"--http-listen", "", "--registry-listen", "", "--etcd-peer-listen", t.peers[id],
		"--etcd-initial-cluster", strings.Join(founders, ","), "--log-level", "error",
		"--set", "default.replication.factor=3", "--set", "min.insync.replicas=2",
		"--set", "max.partitions=100000", "--set", "topic.max.partitions=100000")
	for _, s := range t.settings {
		c.Args = append(c.Args, "--set", s)
	}
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	t.processes[id] = c
	return func() error {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "is ready") {
				return nil
			}
		}
		return fmt.Errorf("node %d did not start", id)
	}, nil
}

// kill ends a node as a crash would.
func (t *trio) kill(id int) {
	if c := t.processes[id]; c != nil {
		_ = c.Process.Kill()
		_ = c.Wait()
		t.processes[id] = nil
	}
}

func (t *trio) killAll() {
	for id := range clusterNodes {
		t.kill(id)
	}
}

// stop ends a node in order, and returns how long that took.
func (t *trio) stop(id int) (time.Duration, error) {
	c, begun := t.processes[id], time.Now()
	t.processes[id] = nil
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := c.Wait()
	return time.Since(begun), err
}

// sluice runs a command against whichever nodes run, and decodes its JSON into to,
// unless that is nil.
func (t *trio) sluice(ctx context.Context, to any, args ...string) error {
	var servers []string
	for id, c := range t.processes {
		if c != nil {
			servers = append(servers, t.grpc[id])
		}
	}
	c := exec.CommandContext(ctx, t.binary, append(args, "--server", strings.Join(servers, ","),
		"--output", "json")...)
	var out, failure bytes.Buffer
	c.Stdout, c.Stderr = &out, &failure
	if err := c.Run(); err != nil {
		return fmt.Errorf("sluice %s: %w: %s", strings.Join(args, " "), err, failure.String())
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), to)
}

// clusterInfo is what `sluice cluster info` says.
type clusterInfo struct {
	Controller      int `json:"controller_id"`
	UnderReplicated int `json:"under_replicated_partition_count"`
	Leaderless      int `json:"leaderless_partition_count"`
	Brokers         []struct {
		ID    int `json:"broker_id"`
		Leads int `json:"leader_count"`
	} `json:"brokers"`
}

// led reports whether all partitions are led by nodes that live.
func (c *clusterInfo) led(partitions int) bool {
	leads := 0
	for _, b := range c.Brokers {
		leads += b.Leads
	}
	return c.Leaderless == 0 && leads >= partitions
}

// await looks at the cluster until a condition holds.
func (t *trio) await(ctx context.Context, holds func(*clusterInfo) bool) error {
	deadline := time.Now().Add(5 * time.Minute)
	for {
		var info clusterInfo
		err := t.sluice(ctx, &info, "cluster", "info")
		switch {
		case err == nil && holds(&info):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("the cluster stays as it is: %+v %w", info, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// awaitInSync waits until all nodes are there and every replica is in sync.
func (t *trio) awaitInSync(ctx context.Context) error {
	return t.await(ctx, func(c *clusterInfo) bool {
		return len(c.Brokers) == clusterNodes && c.UnderReplicated == 0 && c.Leaderless == 0
	})
}

// between is the median of samples with the lowest and the highest.
func between(format string, samples []float64) string {
	sorted := slices.Sorted(slices.Values(samples))
	return fmt.Sprintf(format+" ("+format+" to "+format+")", sorted[len(sorted)/2], sorted[0],
		sorted[len(sorted)-1])
}

// show prints a line of a table.
func show(cells ...string) {
	fmt.Fprintf(os.Stdout, "| %s |\n", strings.Join(cells, " | "))
}

// head prints the head of a table.
func head(cells ...string) {
	fmt.Fprintln(os.Stdout)
	show(cells...)
	fmt.Fprintln(os.Stdout, "|"+strings.Repeat("---|", len(cells)))
}

// told says on the terminal what is being measured.
func told(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  "+format+"\n",
		append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
