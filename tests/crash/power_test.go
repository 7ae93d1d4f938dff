package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// needFUSE skips the test where there is no FUSE, and fails it when the long
// form was asked for.
func needFUSE(t *testing.T) {
	t.Helper()
	unmount, err := mount(newDisk(), t.TempDir())
	if err == nil {
		require.NoError(t, unmount())
		return
	}
	text := fmt.Sprintf("power cuts need /dev/fuse and the right to mount: %v", err)
	if os.Getenv("CRASH_MINUTES") != "" {
		t.Fatal(text)
	}
	run.skip(text)
	t.Skip(text)
}

// machine is a disk, and the process that has its data there.
type machine struct {
	t       *testing.T
	dir     string
	disk    *disk
	ledger  *ledger
	process *process
	unmount func() error
	round   int
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, dir: t.TempDir(), disk: newDisk(), ledger: newLedger()}
}

// boot mounts the disk and starts a process on it.
func (m *machine) boot() {
	m.t.Helper()
	unmount, err := mount(m.disk, m.dir)
	require.NoError(m.t, err)
	m.unmount = unmount
	d := m.disk
	m.t.Cleanup(func() { // for a test that fails on the way
		d.cutNow()
		d.release()
		_ = unmount()
	})
	m.process, err = start(m.ledger, m.dir+"/data", writers(m.round))
	require.NoError(m.t, err)
	m.t.Cleanup(m.process.kill)
	m.round++
}

// powerOff takes the power away if it is not gone, and puts in the disk as it
// is found after that.
func (m *machine) powerOff(how severity, random *rand.Rand) {
	m.t.Helper()
	m.disk.cutNow()
	m.process.kill()
	m.disk.release()
	require.NoError(m.t, m.process.wait())
	m.leave()
	m.disk = m.disk.afterCut(how, random)
}

// leave unmounts the disk; the process must have ended.
func (m *machine) leave() {
	m.t.Helper()
	var err error
	for range 50 {
		if err = m.unmount(); err == nil {
			return
		}
		after(20*time.Millisecond, nil)
	}
	require.NoError(m.t, err)
}

// TestPowerCut takes the power away while a process appends, starts and stops:
// at any time, and just behind the events that move files about.
func TestPowerCut(t *testing.T) {
	needFUSE(t)
	random, all, sum := seeded(t), newTally(), events{}
	end := time.Now().Add(budget(t, 0.45))
	targets := aims()
	require.NotEmpty(t, targets, "no aim has CRASH_AIM in its name")
	var m *machine
	before := ""
	for round := 0; time.Now().Before(end); round++ {
		if round%20 == 0 {
			m, before = newMachine(t), ""
		}
		target := targets[round%len(targets)]
		how := severity(random.IntN(int(severityMax) + 1))
		target.more = random.IntN(12)
		m.cutAt(target, how, random, all, before)
		row := all.row("cut: " + target.name)
		row.acked += m.ledger.events.records
		sum.acked += m.ledger.events.acked
		sum.records += m.ledger.events.records
		sum.slowestMs = max(sum.slowestMs, m.ledger.events.slowestMs)
		m.ledger.events = events{}
		before = "cut: " + target.name
	}
	delete(all.rows, "")
	show(t, "power cut, aimed at eleven events", "cuts", all, sum)
}

// cutAt boots the machine, looks at what the last cut left, and cuts again.
func (m *machine) cutAt(
	target aim, how severity, random *rand.Rand, all *tally, before string,
) {
	m.t.Helper()
	const patience = 3 * time.Second
	if target.name == "start" {
		target.more = random.IntN(120)
		m.disk.aim = &target
	}
	m.boot()
	switch target.name {
	case "start":
		after(patience, m.disk.cut)
	case "stop":
		m.up()
		after(200*time.Millisecond, m.disk.cut)
		target.more = random.IntN(60)
		m.disk.setAim(&target)
		m.process.stop()
		after(patience, m.disk.cut)
	case "any time":
		m.up()
		after(time.Duration(50+random.IntN(800))*time.Millisecond, nil)
		target.hit = true
	default:
		m.up()
		m.disk.setAim(&target)
		after(patience, m.disk.cut)
	}
	files := m.disk.list()
	m.powerOff(how, random)
	row := all.row("cut: " + target.name)
	row.done++
	if target.hit {
		row.met++
	}
	if p := m.process; p.finding.whole || p.finding.refused != "" {
		defer func() {
			if m.t.Failed() {
				m.t.Logf("files before the next cut:\n%s", files)
			}
		}()
		good(m.t, p, before)
		all.add(before, p, p.report)
	}
	require.Empty(m.t, m.process.finding.failure)
}

// up waits until the process has listed what it found.
func (m *machine) up() {
	select {
	case <-m.process.listed:
	case <-time.After(time.Minute):
		m.disk.cutNow()
		m.process.kill()
		m.disk.release()
		m.t.Fatalf("the process hangs at its start:\n%s", m.process.log.String())
	}
}
