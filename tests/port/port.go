// Package port finds ports of the loopback for tests that must know an address
// before anything listens on it, as the members of an etcd quorum do.
package port

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// The ports that are handed out lie below those that systems give to outgoing
// connections (32768 on Linux), one of which could take a port in the moment
// before it is listened on.
const (
	first = 12_000
	count = 20_000
)

var (
	mu   sync.Mutex
	next = rand.IntN(count)
)

// Free returns a loopback address, host:port, on which nothing listens, and never
// the same one twice in a process.
func Free(tb testing.TB) string {
	tb.Helper()
	address, err := Find()
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

// Find is Free for what is no test. The error is that of the last port of all.
func Find() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	var failed error
	for range count {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+next))
		next = (next + 1) % count
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
		failed = err
	}
	return "", failed
}
