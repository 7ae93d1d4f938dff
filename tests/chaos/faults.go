package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// faultKind is one way to break a cluster. Inject breaks it and returns what
// repairs it, which also waits until the cluster is whole again.
type faultKind struct {
	name string
	// links says that it needs links that can be cut.
	links  bool
	inject injector
	// hold is how long the fault stays before it is repaired, in ms.
	holdMin, holdMax int
}

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
	{name: "pause", inject: pause, holdMin: 500, holdMax: 14000},
	{name: "rolling restart", inject: rolling, holdMin: 0, holdMax: 0},
	{
		name: "cut off, two-way", links: true, inject: isolate(true, ""),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, one-way", links: true, inject: isolate(false, ""),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, etcd only", links: true, inject: isolate(true, etcdPort),
		holdMin: 1000, holdMax: 14000,
	},
	{
		name: "cut off, gRPC only", links: true, inject: isolate(true, grpcPort),
		holdMin: 1000, holdMax: 14000,
	},
	{name: "unplugged", links: true, inject: unplug, holdMin: 1000, holdMax: 14000},
	{name: "disk full", inject: fill, holdMin: 1000, holdMax: 6000},
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
		repair := func() error {
			for i := range c.nodes {
				c.net.heal(i)
			}
			return nil
		}
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
		return repair, errors.Join(errs...)
	}
}

func unplug(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	return func() error { return c.net.plug(p.id) }, c.net.unplug(p.id)
}

// fill fills the disk of one node, which must be one of its own (a tmpfs). The
// node may stop; it is started again when there is room.
func fill(_ context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	path := filepath.Join(p.dir, "filling")
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var st syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &st); err != nil {
		return nil, err
	}
	free := int64(st.Bavail) * st.Bsize
	err = syscall.Fallocate(int(file.Fd()), 0, 0, free)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("filling the disk of node %d: %w", p.id, err)
	}
	return func() error { return errors.Join(os.Remove(path), c.revive()) }, nil
}
