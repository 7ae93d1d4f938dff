package crash

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is a child that runs.
type process struct {
	command *exec.Cmd
	in      io.WriteCloser
	log     bytes.Buffer
	ledger  *ledger
	finding *finding
	report  report        // of the comparison, once listed
	listed  chan struct{} // closed when it has listed what it found, or ended
	closed  chan struct{} // closed when it says that it is done, or ended
	failed  chan struct{} // closed when it says that something failed
	ended   chan error    // gets what reading its lines came to
	waited  error
	done    bool
}

// start runs this binary again as a child on a directory.
func start(l *ledger, dir string, env ...string) (*process, error) {
	p := &process{
		command: exec.Command(os.Args[0]), ledger: l, finding: newFinding(),
		listed: make(chan struct{}), closed: make(chan struct{}),
		failed: make(chan struct{}), ended: make(chan error, 1),
	}
	p.command.Env = append(append(os.Environ(), envDir+"="+dir), env...)
	p.command.Stderr = &p.log
	p.command.SysProcAttr = dieWithParent()
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go p.follow(out)
	return p, nil
}

// follow reads the child's lines to the end.
func (p *process) follow(out io.Reader) {
	var bad error
	open, failed := true, false
	defer func() {
		if !p.finding.closed {
			close(p.closed)
		}
	}()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a line that was cut short says nothing
		}
		if err := p.ledger.take(strings.TrimSuffix(line, "\n"), p.finding); bad == nil {
			bad = err
		}
		switch {
		case line == "C\n":
			close(p.closed)
		case p.finding.failure != "" && !failed:
			failed = true
			close(p.failed)
		}
		if open && p.finding.whole {
			open = false
			p.compare()
		}
	}
	if open {
		p.compare()
	}
	p.ended <- bad
}

// compare judges what the child listed, before it changes anything.
func (p *process) compare() {
	p.report = p.ledger.compare(p.finding)
	if p.finding.whole {
		p.ledger.settle(p.finding)
	}
	close(p.listed)
}

// err returns that the process has ended, or nil if it runs.
func (p *process) err() error {
	if p.finding.whole {
		return nil
	}
	return fmt.Errorf("the process did not open the store: %s", p.finding.refused)
}

// stop asks the child to close the store.
func (p *process) stop() { _, _ = io.WriteString(p.in, "stop\n") }

// kill ends the child at once. It does not wait, as the child may hang in a
// call to a disk without power.
func (p *process) kill() { _ = p.command.Process.Kill() }

// wait returns once the child has ended and its last line is read. A child that
// does not end within a minute is killed, and that is an error.
func (p *process) wait() error {
	if p.done {
		return p.waited
	}
	timer := time.AfterFunc(time.Minute, p.kill)
	p.done, p.waited = true, <-p.ended
	_ = p.command.Wait() // what it ended with is in its lines
	if !timer.Stop() && p.waited == nil {
		p.waited = fmt.Errorf("the process hung: %s", lastLines(p.log.String(), 20))
	}
	return p.waited
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
