package storage

import "time"

// pace decides when the writer hands a group over. Handing over as soon as the
// disk is free would split callers that wait for their answer before they
// append again into two halves for good: while the group of one half syncs,
// the other half waits, and so each sync carries half of what it could. So the
// writer waits for as many appends as the last group answered, on top of those
// that wait already, but no longer than a small part of what the last commit
// took. A single caller is never waited for.
type pace struct {
	free   bool // no sync is under way that somebody waits for
	waited bool // long enough
	last   int  // ops of the last group
	target int  // ops at which the group is worth a commit
	timer  *time.Timer
}

const (
	paceShare = 8 // of the last commit's time
	paceMax   = 2 * time.Millisecond
)

func newPace() *pace {
	p := &pace{timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}

// freed notes that a commit is done, how long it took, and how many ops have
// come meanwhile.
func (p *pace) freed(took time.Duration, waiting int) {
	p.free, p.waited = true, false
	p.target = p.last + waiting
	if p.target <= 1 {
		p.waited = true
		return
	}
	p.timer.Reset(min(took/paceShare, paceMax))
}

// due reports whether a group of n ops should go.
func (p *pace) due(n int) bool { return p.waited || n >= p.target }

// handOver notes that a group goes.
func (p *pace) handOver(n int) {
	p.timer.Stop()
	p.free, p.last = false, n
}
