package port

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAPortIsFreeAndHandedOutOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		address := Free(t)
		assert.False(t, seen[address], "%s again", address)
		seen[address] = true
	}
	address := Free(t)
	taken, err := net.Listen("tcp", address)
	require.NoError(t, err)
	defer taken.Close()
	mu.Lock()
	next = (next + count - 1) % count // so that it is looked at again
	mu.Unlock()
	assert.NotEqual(t, address, Free(t))
}
