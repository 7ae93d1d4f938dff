package replica

import (
	"sync"
	"time"
)

// throttle bounds what a node sends to replicas that reassignments add
// (leader.replication.throttled.rate). It may be overdrawn by one answer and has
// then to be waited for.
type throttle struct {
	mu   sync.Mutex
	left float64 // bytes; below 0 while it is overdrawn
	at   time.Time
}

// open reports whether something may be sent now, at a rate in bytes a second.
func (t *throttle) open(now time.Time, rate int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if passed := now.Sub(t.at).Seconds(); passed > 0 {
		// What was not used for longer than a second is lost.
		t.left = min(t.left+min(passed, 1e6)*float64(rate), float64(rate))
		t.at = now
	}
	return t.left > 0
}

// spend says what was sent.
func (t *throttle) spend(bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left -= float64(bytes)
}

// Missing returns about how many bytes replicas have still to copy, all together,
// as far as the node leads the partition: the log's bytes are taken to be spread
// evenly over its offsets.
func (p *Partition) Missing(nodes []int32) (bytes int64, leads bool) {
	start, end, size := p.log.Start(), p.log.End(), p.log.Bytes()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil {
		return 0, false
	}
	for _, node := range nodes {
		at := start
		if peer := p.leader.peers[node]; peer != nil {
			at = min(max(peer.durable, start), end)
		}
		if end > start {
			bytes += int64(float64(size) * float64(end-at) / float64(end-start))
		}
	}
	return bytes, true
}
