package crash

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSlowSync lets each sync take its time and cuts the power in between.
func TestSlowSync(t *testing.T) {
	needFUSE(t)
	random, all := seeded(t), newTally()
	end := time.Now().Add(budget(t, 0.08))
	m, before := newMachine(t), ""
	for round := 0; time.Now().Before(end); round++ {
		delay := time.Duration(5+round*20) * time.Millisecond
		m.disk.syncDelay = func() time.Duration { return delay }
		how := severity(random.IntN(int(severityMax) + 1))
		m.cutAt(aim{name: "any time"}, how, random, all, before)
		before = "cut: any time"
	}
	delete(all.rows, "")
	show(t, "power cut while syncs are slow", "cuts", all, m.ledger.events)
}

// TestFailedSync lets a sync fail, and cuts the power after the store said so:
// what was acknowledged is there, and nothing is acknowledged behind the
// failure. The start may be LOSSY: the group whose values were not synced was
// answered to nobody, but its keys may be there.
func TestFailedSync(t *testing.T) {
	needFUSE(t)
	random, all := seeded(t), newTally()
	end := time.Now().Add(budget(t, 0.06))
	var sum events
	const deed = "failed sync"
	for time.Now().Before(end) {
		m := newMachine(t)
		m.boot()
		m.up()
		m.disk.mu.Lock()
		m.disk.failSync = 1 + random.IntN(100)
		m.disk.mu.Unlock()
		after(5*time.Second, m.process.failed)
		m.powerOff(takesAll, random)
		require.NotEmpty(t, m.process.finding.failure, "a failed sync was passed over")
		row := all.row(deed)
		row.done++
		row.acked += m.ledger.events.records
		sum.acked += m.ledger.events.acked
		sum.records += m.ledger.events.records

		m.boot()
		m.up()
		p := m.process
		m.powerOff(takesAll, random)
		require.Empty(t, p.finding.refused)
		require.Empty(t, p.report.lost, p.log.String())
		require.Empty(t, p.report.invented, p.log.String())
		all.add(deed, p, p.report)
	}
	show(t, "a sync that fails, then a cut", "failed syncs", all, sum)
}
