package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/tests/port"
)

// network is how the nodes reach each other: by the loopback, there by way of
// proxies if any link is to be cut, or, for root, each in a network namespace of
// its own, on a bridge that this process is on, too.
type network struct {
	name    string // of the bridge, and the beginning of every other name; empty: loopback
	third   int    // of the addresses 10.213.<third>.<node + 1>
	count   int
	proxies *proxies // nil where there are none
}

// The ports in a namespace, which name the kind of a port anywhere.
const (
	grpcPort = "9092"
	etcdPort = "2380"
	httpPort = "8082"
)

// newNamespaces makes namespaces for count nodes.
func newNamespaces(count int) (*network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, err
	}
	n := &network{count: count, third: os.Getpid() % 250}
	n.name = "slc" + strconv.Itoa(n.third)
	if err := n.build(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// newProxied puts proxies between nodes on the loopback.
func newProxied(count int, seed uint64) *network {
	return &network{count: count, proxies: newProxies(seed)}
}

func (n *network) build() error {
	var errs []error
	do := func(args ...string) {
		if len(errs) == 0 {
			if err := ip(args...); err != nil {
				errs = append(errs, err)
			}
		}
	}
	do("link", "add", n.name, "type", "bridge")
	do("addr", "add", n.address(253)+"/24", "dev", n.name)
	do("link", "set", n.name, "up")
	for i := range n.count {
		space, outer, inner := n.space(i), n.link(i), n.name+"i"+strconv.Itoa(i)
		do("netns", "add", space)
		do("link", "add", outer, "type", "veth", "peer", "name", inner)
		do("link", "set", inner, "netns", space)
		do("link", "set", outer, "master", n.name, "up")
		do("-n", space, "addr", "add", n.address(i)+"/24", "dev", inner)
		do("-n", space, "link", "set", inner, "up")
		do("-n", space, "link", "set", "lo", "up")
	}
	return errors.Join(errs...)
}

// close removes the namespaces and the bridge, or ends the proxies.
func (n *network) close() {
	if n.proxies != nil {
		n.proxies.close()
	}
	if n.name == "" {
		return
	}
	for i := range n.count {
		_ = ip("netns", "del", n.space(i))
		_ = ip("link", "del", n.link(i))
	}
	_ = ip("link", "del", n.name)
}

func (n *network) space(i int) string { return n.name + "-" + strconv.Itoa(i) }

func (n *network) link(i int) string { return n.name + "o" + strconv.Itoa(i) }

func (n *network) address(i int) string { return fmt.Sprintf("10.213.%d.%d", n.third, i+1) }

// addresses are where a node listens, and where the other nodes reach it.
type addresses struct {
	grpc, etcd, http       string
	publicGRPC, publicPeer string
}

// addresses returns those of a node.
func (n *network) addresses(i int) (addresses, error) {
	if n.name != "" {
		at := func(port string) string { return net.JoinHostPort(n.address(i), port) }
		return addresses{at(grpcPort), at(etcdPort), at(httpPort), at(grpcPort), at(etcdPort)}, nil
	}
	var free [3]string
	for j := range free {
		var err error
		if free[j], err = port.Find(); err != nil {
			return addresses{}, err
		}
	}
	a := addresses{free[0], free[1], free[2], free[0], free[1]}
	if n.proxies == nil {
		return a, nil
	}
	var errs [2]error
	a.publicGRPC, errs[0] = n.proxies.front(i, grpcPort, a.grpc)
	a.publicPeer, errs[1] = n.proxies.front(i, etcdPort, a.etcd)
	return a, errors.Join(errs[:]...)
}

// command runs a program in the namespace of a node.
func (n *network) command(i int, program string, args ...string) *exec.Cmd {
	if n.name == "" {
		return exec.Command(program, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", n.space(i), program}, args...)...)
}

// up is told that a node starts, and down that it has ended.
func (n *network) up(i int) error {
	if n.proxies == nil {
		return nil
	}
	return n.proxies.up(i)
}

func (n *network) down(i int) {
	if n.proxies != nil {
		n.proxies.down(i)
	}
}

// unplug takes a node off the bridge: nobody reaches it, this process neither.
func (n *network) unplug(i int) error { return ip("link", "set", n.link(i), "nomaster") }

// plug puts it back.
func (n *network) plug(i int) error { return ip("link", "set", n.link(i), "master", n.name) }

// drop makes a node drop what it would send to another: everything, or what
// goes to or comes from one port. This process goes on reaching both.
func (n *network) drop(from, to int, port string) error {
	if n.proxies != nil {
		n.proxies.set(from, to, port, trouble{held: true})
		return nil
	}
	if port == "" {
		return ip("-n", n.space(from), "rule", "add", "to", n.address(to), "prio", "10",
			"blackhole")
	}
	return errors.Join(
		ip("-n", n.space(from), "rule", "add", "to", n.address(to), "ipproto", "tcp", "dport",
			port, "prio", "10", "blackhole"),
		ip("-n", n.space(from), "rule", "add", "to", n.address(to), "ipproto", "tcp", "sport",
			port, "prio", "10", "blackhole"))
}

// heal takes back everything that nodes drop.
func (n *network) heal() {
	if n.proxies != nil {
		n.proxies.heal()
		return
	}
	for i := range n.count {
		for ip("-n", n.space(i), "rule", "del", "prio", "10") == nil { // until none is left
		}
	}
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(string(out)))
	}
	return nil
}
