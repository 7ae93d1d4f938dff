package crash

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKill kills a process that appends, again and again, also while it starts,
// and lets it stop well now and then.
func TestKill(t *testing.T) {
	random, all, sum := seeded(t), newTally(), events{}
	end := time.Now().Add(budget(t, 0.2))
	var l *ledger
	var dir, before string
	for round := 0; time.Now().Before(end); round++ {
		if round%25 == 0 {
			l, dir, before = newLedger(), t.TempDir(), ""
		}
		p, err := start(l, dir, writers(round))
		require.NoError(t, err)
		t.Cleanup(p.kill)
		deed := "kill under load"
		switch random.IntN(6) {
		case 0:
			deed = "kill at start"
			after(time.Duration(random.IntN(40))*time.Millisecond, p.listed)
			p.kill()
		case 1:
			deed = "stop"
			<-p.listed
			after(100*time.Millisecond, nil)
			p.stop()
		default:
			<-p.listed
			after(time.Duration(50+random.IntN(700))*time.Millisecond, nil)
			p.kill()
		}
		require.NoError(t, p.wait())
		require.Empty(t, p.finding.failure)
		if p.finding.whole || p.finding.refused != "" {
			good(t, p, before)
			all.add(before, p, p.report)
		}
		if deed == "stop" {
			require.True(t, p.finding.closed, lastLines(p.log.String(), 10))
		}
		row := all.row(deed)
		row.done++
		row.acked += l.events.records
		sum.acked += l.events.acked
		sum.records += l.events.records
		sum.slowestMs = max(sum.slowestMs, l.events.slowestMs)
		l.events = events{}
		before = deed
	}
	delete(all.rows, "")
	show(t, "kill -9 under load and at start; stops", "kills and stops", all, sum)
}
