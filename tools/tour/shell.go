package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// endMark is what the shell prints after a block, before its exit status.
const endMark = "__tour_block_ended__"

// shell is one bash that runs the blocks in turn, so that what one exports the
// next one has.
type shell struct {
	*process
	in     io.WriteCloser
	prefix []string // of a command that runs where the shell does
}

// startShell starts a shell, with a script on the machine of an address.
func startShell(ctx context.Context, script, address string) (*shell, error) {
	p := &process{output: &buffer{}, done: make(chan error, 1)}
	s := &shell{process: p}
	if script != "" {
		s.prefix = []string{"bash", script, address}
	}
	p.cmd = s.command(ctx, "bash", "--norc", "-s")
	var err error
	if s.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return s, p.start()
}

// command is a command where the shell is.
func (s *shell) command(ctx context.Context, words ...string) *exec.Cmd {
	words = append(slices.Clip(s.prefix), words...)
	return exec.CommandContext(ctx, words[0], words[1:]...)
}

// run runs the commands of a block and returns what they printed.
func (s *shell) run(ctx context.Context, commands string) (string, error) {
	from := s.output.Len()
	// The commands' standard input is not the shell's, or they would read the
	// blocks that follow.
	script := "set -eo pipefail\n{\n" + commands + "} </dev/null\nset +e\necho " + endMark + "\n"
	if _, err := io.WriteString(s.in, script); err != nil {
		return "", err
	}
	err := s.await(ctx, func() bool {
		return strings.Contains(s.output.From(from), endMark)
	})
	printed, _, _ := strings.Cut(s.output.From(from), endMark)
	return printed, err
}

func (s *shell) close() error {
	s.in.Close()
	return s.stop()
}

// process is a command that runs on while the tour does.
type process struct {
	cmd     *exec.Cmd
	output  *buffer
	done    chan error
	line    int
	want    string
	hasWant bool
}

// startProcess starts the command of a block in a process group of its own.
func startProcess(ctx context.Context, s *shell, b block) (*process, error) {
	p := &process{output: &buffer{}, done: make(chan error, 1), line: b.line}
	p.cmd = s.command(ctx, "bash", "--norc", "-c", b.text)
	environment, err := s.run(ctx, "env -0 | tr '\\0' '\\n'\n")
	if err != nil {
		return nil, err
	}
	p.cmd.Env = strings.Split(strings.TrimSpace(environment), "\n")
	return p, p.start()
}

func (p *process) start() error {
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.done <- p.cmd.Wait() }()
	return nil
}

// await waits until the output is as wanted, or the process ends.
func (p *process) await(ctx context.Context, wanted func() bool) error {
	for {
		changed := p.output.Changed()
		if wanted() {
			return nil
		}
		select {
		case <-changed:
		case err := <-p.done:
			p.done <- err
			if wanted() {
				return nil
			}
			return fmt.Errorf("a command failed (%w); it printed:\n%s", err, p.output.From(0))
		case <-ctx.Done():
			return fmt.Errorf("%w; so far it printed:\n%s", ctx.Err(), p.output.From(0))
		}
	}
}

// outputTimeout is how long a background command has to print what the page
// shows of it, after the last block has run.
const outputTimeout = 30 * time.Second

// awaitOutput waits for what the page shows of a background command.
func (p *process) awaitOutput(ctx context.Context) error {
	if !p.hasWant {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outputTimeout)
	defer cancel()
	return p.await(ctx, func() bool { return matches(p.want, p.output.From(0)) })
}

// stop ends the process and its children as a terminal would, and waits.
func (p *process) stop() error {
	select {
	case err := <-p.done:
		p.done <- err
		return nil
	default:
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(outputTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(errors.New("a command did not end on SIGTERM"), p.cmd.Cancel())
	}
}

// run runs a block and compares its output.
func (b block) run(
	ctx context.Context, s *shell, running *[]*process, want string, hasWant bool,
) error {
	if b.is("serve") || b.is("background") {
		p, err := startProcess(ctx, s, b)
		if err != nil {
			return err
		}
		*running = append(*running, p)
		if b.is("background") {
			p.want, p.hasWant = want, hasWant
			return p.await(ctx, func() bool { return p.output.Len() > 0 || !hasWant })
		}
		return p.await(ctx, func() bool { return strings.Contains(p.output.From(0), "ready") })
	}
	got, err := s.run(ctx, b.text)
	if err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, got)
	if hasWant && !matches(want, got) {
		return fmt.Errorf("the page shows:\n%s\nit printed:\n%s", want, got)
	}
	return nil
}

// buffer keeps what a process prints and says when there is more.
type buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

// Write adds to the buffer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.text.Write(p)
}

// Changed returns a channel that is closed by the next Write.
func (b *buffer) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// Len returns the number of bytes so far.
func (b *buffer) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Len()
}

// From returns what was written from an offset on.
func (b *buffer) From(offset int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text.Bytes()[offset:])
}
