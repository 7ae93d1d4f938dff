// Command tour runs a page of documentation as it is printed: the fenced blocks
// of commands, one after the other, in one shell, and compares what they print
// with the blocks of output that follow them.
//
//	go run ./tools/tour README.md
//	go run ./tools/tour -machines tools/machine.sh docs/operations.md
//
// A fence says what its block is by the words after the backticks:
//
//	sh             commands; each must succeed
//	sh serve       a command that runs on; the tour waits for its banner
//	sh background  a command that runs on; its output block may come later
//	... at ADDR    on the machine of that address: run with -machines only, and
//	               then nothing else is, in a shell of each machine, which the
//	               script that -machines names starts: SCRIPT ADDR COMMAND...
//	text           the output of the commands before it; "..." stands for
//	               anything in a line, and alone for any lines
//
// Other blocks are not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// pageTimeout bounds a whole page, so that a command that hangs ends the run.
const pageTimeout = 15 * time.Minute

func main() {
	machines := flag.String("machines", "", "script that runs a command on a machine")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: tour [-machines SCRIPT] PAGE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	err := tour(ctx, flag.Arg(0), *machines)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// tour runs the page at path and reports the first block that differs.
func tour(ctx context.Context, path, machines string) (err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	blocks := parse(string(text))
	shells := map[string]*shell{}
	defer func() {
		for _, s := range shells {
			err = errors.Join(err, s.close())
		}
	}()
	var running []*process
	defer func() {
		for _, r := range slices.Backward(running) {
			err = errors.Join(err, r.stop())
		}
	}()
	commands, compared := 0, 0
	for i, b := range blocks {
		machine := b.machine()
		if !b.commands() || (machine != "") != (machines != "") {
			continue
		}
		shell := shells[machine]
		if shell == nil {
			if shell, err = startShell(ctx, machines, machine); err != nil {
				return err
			}
			shells[machine] = shell
		}
		fmt.Fprintf(os.Stderr, "== %s:%d\n%s", path, b.line, b.text)
		want, hasWant := outputAfter(blocks, i)
		if err := b.run(ctx, shell, &running, want, hasWant); err != nil {
			return fmt.Errorf("%s:%d: %w", path, b.line, err)
		}
		commands++
		if hasWant {
			compared++
		}
	}
	for _, p := range running {
		if err := p.awaitOutput(ctx); err != nil {
			return fmt.Errorf("%s:%d: %w", path, p.line, err)
		}
	}
	if commands == 0 {
		return fmt.Errorf("%s: nothing to run", path)
	}
	fmt.Fprintf(os.Stdout, "%s: %d blocks ran, %d outputs were as printed\n",
		path, commands, compared)
	return nil
}
