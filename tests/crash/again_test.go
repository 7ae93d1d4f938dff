package crash

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKillThenCut kills a process whose syncs do not end, so that frames are written and
// not synced, lets another one open the store and show what is there, and takes the power
// away at once. What was shown is there after that: a start syncs what a kill left before
// it counts as durable.
func TestKillThenCut(t *testing.T) {
	needFUSE(t)
	random, all, sum := seeded(t), newTally(), events{}
	end := time.Now().Add(budget(t, 0.08))
	const deed = "kill while syncs are stuck, start, cut"
	for first := true; first || time.Now().Before(end); first = false {
		m := newMachine(t)
		m.boot()
		m.up()
		after(time.Duration(random.IntN(300))*time.Millisecond, nil)
		stuck := make(chan struct{})
		m.disk.mu.Lock()
		m.disk.stuck = stuck
		m.disk.mu.Unlock()
		after(time.Duration(100+random.IntN(300))*time.Millisecond, nil)
		m.process.kill()
		m.disk.mu.Lock()
		m.disk.stuck = nil
		m.disk.mu.Unlock()
		close(stuck)
		require.NoError(t, m.process.wait())

		for _, what := range []string{"kill", deed} {
			var err error
			if what == deed {
				m.boot()
			} else {
				m.process, err = start(m.ledger, m.dir+"/data", envAppend+"=no")
				require.NoError(t, err)
				t.Cleanup(m.process.kill)
			}
			m.up()
			p := m.process
			m.powerOff(takesAll, random)
			good(t, p, what)
			all.add(deed, p, p.report)
		}
		row := all.row(deed)
		row.done++
		row.acked += m.ledger.events.records
		sum.acked += m.ledger.events.acked
		sum.records += m.ledger.events.records
	}
	show(t, "a kill, a start, a power cut", "cuts", all, sum)
}

// TestReadOnlyMount starts on a file system that is mounted read-only.
func TestReadOnlyMount(t *testing.T) {
	disk := smallDisk(t, "a read-only mount")
	l, dir := newLedger(), filepath.Join(disk, "data")
	p, err := start(l, dir, writers(0))
	require.NoError(t, err)
	t.Cleanup(p.kill)
	<-p.listed
	after(200*time.Millisecond, nil)
	p.stop()
	require.NoError(t, p.wait())
	require.True(t, p.finding.closed, lastLines(p.log.String(), 20))

	remount := func(flags uintptr) {
		t.Helper()
		require.NoError(t, syscall.Mount("", disk, "", syscall.MS_REMOUNT|flags, ""))
	}
	remount(syscall.MS_RDONLY)
	for _, dir := range []string{dir, filepath.Join(disk, "new", "data")} {
		p, err = start(l.clone(), dir, envAppend+"=no")
		require.NoError(t, err)
		t.Cleanup(p.kill)
		require.NoError(t, p.wait())
		require.Contains(t, p.finding.refused, dir)
		require.Contains(t, p.finding.refused, "read-only file system")
	}
	remount(0)
	p, err = start(l, dir, envAppend+"=no")
	require.NoError(t, err)
	t.Cleanup(p.kill)
	<-p.listed
	p.stop()
	require.NoError(t, p.wait())
	good(t, p, "a start on a read-only mount")
	require.Equal(t, "CLEAN", p.finding.verdict, "a start that was refused changed nothing")
}
