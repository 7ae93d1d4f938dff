// Package chaos runs a cluster of real processes, breaks it in every way that
// machines, disks, networks and operators break one, and checks what its clients
// were told against what the nodes hold in the end: nothing acknowledged is lost,
// twice or out of order; operations look as if each had happened at one moment;
// committed offsets do not go back, and no partition has two owners; replicas are
// equal, batch by batch; and processes have not grown.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// process is one node: a process, in a network namespace of its own where there
// is one.
type process struct {
	id     int
	dir    string
	log    string // the file of what it says, not on its disk
	net    *network
	args   []string
	binary string

	addresses

	mu      sync.Mutex
	running *exec.Cmd
	exited  chan struct{} // closed when running has ended
	err     error         // of running; set before exited is closed
	began   int64         // how long log was when it started

	conn *grpc.ClientConn
}

// cluster is the processes and what connects them.
type cluster struct {
	nodes []*process
	net   *network
	told  []wounded // damage that was done to files
}

// newCluster prepares count nodes below a directory. They do not run yet.
func newCluster(
	binary, dir string, count int, net *network, set map[string]string,
) (*cluster, error) {
	c := &cluster{net: net}
	var peers []string
	for i := range count {
		at, err := net.addresses(i)
		if err != nil {
			return nil, err
		}
		peers = append(peers, fmt.Sprintf("%d=%s", i, at.publicPeer))
		c.nodes = append(c.nodes, &process{
			id: i, dir: filepath.Join(dir, "node-"+strconv.Itoa(i)), net: net, binary: binary,
			log:       filepath.Join(dir, "node-"+strconv.Itoa(i)+".log"),
			addresses: at,
		})
	}
	if net.proxies != nil {
		net.proxies.pid = func(node int) int { return c.nodes[node].pid() }
	}
	for _, p := range c.nodes {
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return nil, err
		}
		p.args = []string{
			"serve", "--node-id", strconv.Itoa(p.id), "--rack", rackOf(p.id),
			"--data-dir", filepath.Join(p.dir, "data"), "--grpc-listen", p.grpc,
			"--advertise-grpc", p.publicGRPC, "--http-listen", p.http,
			"--registry-listen", "", "--etcd-peer-listen", p.etcd,
			"--etcd-initial-cluster", strings.Join(peers, ","),
		}
		for name, value := range set {
			p.args = append(p.args, "--set", name+"="+value)
		}
		conn, err := grpc.NewClient("passthrough:///"+p.grpc,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2,
					MaxDelay: 500 * time.Millisecond,
				}, MinConnectTimeout: time.Second,
			}))
		if err != nil {
			return nil, err
		}
		p.conn = conn
	}
	return c, nil
}

// rackOf returns the rack of a node.
func rackOf(id int) string { return "rack-" + strconv.Itoa(id) }

// start runs the process of a node.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if size, err := log.Stat(); err == nil {
		p.began = size.Size()
	}
	cmd := p.net.command(p.id, p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := p.net.up(p.id); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.running, p.exited = cmd, exited
	go func() {
		err := cmd.Wait()
		p.net.down(p.id)
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(exited)
	}()
	return nil
}

// pid returns that of the process, or 0 if it does not run.
func (p *process) pid() int {
	if !p.alive() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running.Process.Pid
}

// says returns what the process has said since it was started.
func (p *process) says() string {
	p.mu.Lock()
	began := p.began
	p.mu.Unlock()
	raw, err := os.ReadFile(p.log)
	if err != nil || int64(len(raw)) < began {
		return ""
	}
	return string(raw[began:])
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return errors.New("it does not run")
	}
	return p.running.Process.Signal(s)
}

// kill ends the process at once, and waits.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL) // it may have ended by itself
	p.await()
}

// stop ends the process in order, and returns how it ended.
func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	p.await()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *process) await() {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited != nil {
		<-exited
	}
}

// alive reports whether the process runs.
func (p *process) alive() bool {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

// start runs all nodes and returns when they are one cluster.
func (c *cluster) start(ctx context.Context) error {
	for _, p := range c.nodes {
		if err := p.start(); err != nil {
			return err
		}
	}
	return c.whole(ctx)
}

// whole returns once every node, all of which run, knows all of them.
func (c *cluster) whole(ctx context.Context) error {
	var last error
	for {
		seen := 0
		for _, p := range c.nodes {
			if !p.alive() {
				return fmt.Errorf("node %d has ended by itself; %s says why", p.id, p.log)
			}
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			info, err := sluicev1.NewClusterServiceClient(p.conn).GetCluster(call,
				&sluicev1.GetClusterRequest{})
			cancel()
			switch {
			case err != nil:
				last = fmt.Errorf("node %d: %w", p.id, err)
			case len(info.GetCluster().GetBrokers()) < len(c.nodes),
				info.GetCluster().ControllerId == nil:
				last = fmt.Errorf("node %d knows of %d nodes", p.id,
					len(info.GetCluster().GetBrokers()))
			default:
				seen++
			}
		}
		if seen == len(c.nodes) {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return errors.Join(err, last)
		}
	}
}

// inSync returns once all replicas of a topic are in sync.
func (c *cluster) inSync(ctx context.Context, topic string) error {
	for {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		got, err := sluicev1.NewTopicServiceClient(c.nodes[0].conn).GetTopic(call,
			&sluicev1.GetTopicRequest{Topic: topic})
		cancel()
		behind := 0
		for _, p := range got.GetTopic().GetPartitions() {
			if len(p.GetIsrIds()) < len(p.GetReplicaIds()) {
				behind++
			}
		}
		if err == nil && behind == 0 {
			return nil
		}
		if sleeping := sleep(ctx, 100*time.Millisecond); sleeping != nil {
			return fmt.Errorf("%d partitions of %s are not in sync: %w", behind, topic,
				errors.Join(sleeping, err))
		}
	}
}

// revive starts every node that does not run.
func (c *cluster) revive() error {
	var errs []error
	for _, p := range c.nodes {
		if !p.alive() {
			errs = append(errs, p.start())
		}
	}
	return errors.Join(errs...)
}

// close kills what runs and closes the connections.
func (c *cluster) close() {
	for _, p := range c.nodes {
		_ = p.signal(syscall.SIGCONT)
		p.kill()
		_ = p.conn.Close()
	}
}

// violations returns lines of the nodes' logs that say that a rule was broken.
func (c *cluster) violations() []string {
	var found []string
	for _, p := range c.nodes {
		raw, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(raw), "\n") {
			if breaks(line) {
				found = append(found, fmt.Sprintf("node %d: %s", p.id, line))
			}
		}
	}
	return found
}

// breaks reports whether a line of a log says that an invariant is broken, or
// that something panicked. A full disk may end a process by SIGBUS, which is
// none: a page of a mapped file has no room.
func breaks(line string) bool {
	return strings.Contains(line, "INVARIANT") || strings.Contains(line, "panic in a ") ||
		strings.HasPrefix(line, "panic: ") ||
		strings.HasPrefix(line, "fatal error: ") && line != "fatal error: fault"
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
