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

// network is how the nodes reach each other: by the loopback, or, for root,
// each in a network namespace of its own, on a bridge that this process is on,
// too, so that any link can be cut.
type network struct {
	name  string // of the bridge, and the beginning of every other name; empty: loopback
	third int    // of the addresses 10.213.<third>.<node + 1>
	count int
}

const (
	grpcPort = "9092"
	etcdPort = "2380"
)

// newNetwork makes namespaces for count nodes. Where that is not possible, for
// which it says why, the nodes use the loopback.
func newNetwork(count int) (n *network, why error) {
	if os.Geteuid() != 0 {
		return &network{}, errors.New("only root makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return &network{}, err
	}
	n = &network{count: count, third: os.Getpid() % 250}
	n.name = "slc" + strconv.Itoa(n.third)
	if err := n.build(); err != nil {
		n.close()
		return &network{}, err
	}
	return n, nil
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

// close removes the namespaces and the bridge.
func (n *network) close() {
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

// cuttable reports whether links can be cut.
func (n *network) cuttable() bool { return n.name != "" }

// addresses returns where a node serves gRPC and where its etcd listens.
func (n *network) addresses(i int) (grpcAddress, etcdAddress string, err error) {
	if n.cuttable() {
		return net.JoinHostPort(n.address(i), grpcPort), net.JoinHostPort(n.address(i), etcdPort),
			nil
	}
	var free [2]string
	for j := range free {
		if free[j], err = port.Find(); err != nil {
			return "", "", err
		}
	}
	return free[0], free[1], nil
}

// command runs a program in the namespace of a node.
func (n *network) command(i int, program string, args ...string) *exec.Cmd {
	if !n.cuttable() {
		return exec.Command(program, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", n.space(i), program}, args...)...)
}

// unplug takes a node off the bridge: nobody reaches it, this process neither.
func (n *network) unplug(i int) error { return ip("link", "set", n.link(i), "nomaster") }

// plug puts it back.
func (n *network) plug(i int) error { return ip("link", "set", n.link(i), "master", n.name) }

// drop makes a node drop what it would send to another: everything, or what
// goes to or comes from one port. This process goes on reaching both.
func (n *network) drop(from, to int, port string) error {
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

// heal takes back everything that a node drops.
func (n *network) heal(from int) {
	for ip("-n", n.space(from), "rule", "del", "prio", "10") == nil { // until none is left
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
