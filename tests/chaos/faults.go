package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// faultKind is one way to break a cluster. Inject breaks it and returns what
// repairs it, which also waits until the cluster is whole again.
type faultKind struct {
	name   string
	needs  need
	inject injector
	// hold is how long the fault stays before it is repaired, in ms.
	holdMin, holdMax int
}

// need is what a fault needs of its surroundings.
type need int

const (
	links      need = 1 << iota // that can be cut
	proxied                     // proxies in the links
	namespaces                  // network namespaces
	ownDisk                     // a small file system of its own for each node
	copies                      // two more replicas of everything
	stoppable                   // a disk of its own for each node that can be stopped
)

// hold chooses how long a fault stays.
func (f *faultKind) hold(random *rand.Rand) time.Duration {
	return time.Duration(f.holdMin+random.IntN(f.holdMax-f.holdMin+1)) * time.Millisecond
}

// wholeTime bounds how long a cluster takes to be whole after a repair.
const wholeTime = 90 * time.Second

// faultKinds are all of them.
var faultKinds = []faultKind{
	{name: "kill -9 one", inject: killSome(1), holdMin: 100, holdMax: 8000},
	{name: "kill -9 two", inject: killSome(2), holdMin: 100, holdMax: 4000},
	{name: "kill -9 all", inject: killSome(3), holdMin: 50, holdMax: 1000},
	{name: "kill -9 during the start", inject: killStarting, holdMin: 50, holdMax: 500},
	{name: "kill -9 the etcd leader", inject: killEtcdLeader, holdMin: 100, holdMax: 4000},
	{name: "pause", inject: pause, holdMin: 500, holdMax: 14000},
	{
		name: "pause the etcd leader beyond its lease", inject: pauseEtcdLeader,
		holdMin: 10_000, holdMax: 14_000,
	},
	{name: "rolling restart", inject: rolling, holdMin: 0, holdMax: 0},
	{
		name: "cut off, two-way", needs: links, inject: isolate(true, ""),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, one-way", needs: links, inject: isolate(false, ""),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, etcd only", needs: links, inject: isolate(true, etcdPort),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, gRPC only", needs: links, inject: isolate(true, grpcPort),
		holdMin: 1000, holdMax: 14000,
	},
	{name: "unplugged", needs: namespaces, inject: unplug, holdMin: 1000, holdMax: 14000},
	{
		name: "slow links", needs: proxied, holdMin: 2000, holdMax: 10_000,
		inject: disturb(trouble{delay: 20 * time.Millisecond, jitter: 80 * time.Millisecond}),
	},
	{
		name: "links that reset", needs: proxied, holdMin: 2000, holdMax: 10_000,
		inject: disturb(trouble{reset: 0.02}),
	},
	{
		name: "links that end half", needs: proxied, holdMin: 2000, holdMax: 10_000,
		inject: disturb(trouble{finish: 0.02}),
	},
	{
		name: "black hole, one link, one-way", needs: proxied, holdMin: 2000, holdMax: 14_000,
		inject: blackHole,
	},
	{name: "disk full", needs: ownDisk, inject: fill, holdMin: 1000, holdMax: 6000},
	{name: "lost log", needs: copies, inject: lose("log"), holdMin: 100, holdMax: 8000},
	{name: "lost disk", needs: copies, inject: lose(""), holdMin: 100, holdMax: 8000},
	{name: "damaged file", needs: copies, inject: damage, holdMin: 100, holdMax: 4000},
	{name: "slow disk", needs: stoppable, inject: slow, holdMin: 2000, holdMax: 10_000},
	{name: "disk that stalls", needs: stoppable, inject: stall, holdMin: 500, holdMax: 14_000},
	{name: "damaged etcd", needs: copies, inject: damageEtcd, holdMin: 100, holdMax: 4000},
}

// injector breaks a cluster, and returns what repairs it.
type injector = func(context.Context, *cluster, *rand.Rand) (repair func() error, err error)

func victims(c *cluster, random *rand.Rand, count int) []*process {
	order := random.Perm(len(c.nodes))[:min(count, len(c.nodes))]
	var chosen []*process
	for _, i := range order {
		chosen = append(chosen, c.nodes[i])
	}
	return chosen
}

func killSome(count int) injector {
	return func(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
		for _, p := range victims(c, random, count) {
			p.kill()
		}
		return c.revive, nil
	}
}

// killStarting kills a node, and kills it again while it starts.
func killStarting(
	ctx context.Context, c *cluster, random *rand.Rand,
) (func() error, error) {
	p := victims(c, random, 1)[0]
	for range 2 {
		p.kill()
		if err := p.start(); err != nil {
			return nil, err
		}
		_ = sleep(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
	}
	p.kill()
	return c.revive, nil
}

func pause(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	return func() error { return p.signal(syscall.SIGCONT) }, nil
}

// rolling stops and starts one node after another, in order.
func rolling(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	var errs []error
	for _, i := range random.Perm(len(c.nodes)) {
		p := c.nodes[i]
		if err := p.stop(); err != nil {
			errs = append(errs, fmt.Errorf("node %d did not stop in order: %w", i, err))
		}
		if err := p.start(); err != nil {
			errs = append(errs, err)
		}
		waiting, cancel := context.WithTimeout(ctx, wholeTime)
		errs = append(errs, c.whole(waiting))
		cancel()
	}
	return func() error { return nil }, errors.Join(errs...)
}

// isolate cuts one node off the others, for all traffic or one port.
func isolate(both bool, port string) injector {
	return func(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
		p := victims(c, random, 1)[0]
		var errs []error
		for _, other := range c.nodes {
			if other == p {
				continue
			}
			errs = append(errs, c.net.drop(p.id, other.id, port))
			if both {
				errs = append(errs, c.net.drop(other.id, p.id, port))
			}
		}
		return c.mend, errors.Join(errs...)
	}
}

func unplug(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	return func() error { return c.net.plug(p.id) }, c.net.unplug(p.id)
}

// etcdLeader returns the node whose etcd leads the quorum.
func etcdLeader(ctx context.Context, c *cluster) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	for {
		for _, p := range c.nodes {
			got, err := sluicev1.NewClusterServiceClient(p.conn).ListQuorumMembers(ctx,
				&sluicev1.ListQuorumMembersRequest{})
			if err != nil {
				continue
			}
			for _, m := range got.GetMembers() {
				if m.GetLeader() && m.BrokerId != nil {
					return c.nodes[m.GetBrokerId()], nil
				}
			}
		}
		if err := sleep(ctx, retryPause); err != nil {
			return nil, fmt.Errorf("finding the leader of etcd: %w", err)
		}
	}
}

func killEtcdLeader(ctx context.Context, c *cluster, _ *rand.Rand) (func() error, error) {
	p, err := etcdLeader(ctx, c)
	if err != nil {
		return nil, err
	}
	p.kill()
	return c.revive, nil
}

func pauseEtcdLeader(ctx context.Context, c *cluster, _ *rand.Rand) (func() error, error) {
	p, err := etcdLeader(ctx, c)
	if err != nil {
		return nil, err
	}
	return func() error { return p.signal(syscall.SIGCONT) }, p.signal(syscall.SIGSTOP)
}

// disturb puts trouble on all links of one node, in both directions.
func disturb(t trouble) injector {
	return func(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
		p := victims(c, random, 1)[0]
		for _, other := range c.nodes {
			if other != p {
				c.net.proxies.set(p.id, other.id, "", t)
				c.net.proxies.set(other.id, p.id, "", t)
			}
		}
		return c.mend, nil
	}
}

// blackHole lets nothing through from one node to one other.
func blackHole(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	two := victims(c, random, 2)
	c.net.proxies.set(two[0].id, two[1].id, "", trouble{held: true})
	return c.mend, nil
}

// mend heals all links.
func (c *cluster) mend() error {
	c.net.heal()
	return nil
}
