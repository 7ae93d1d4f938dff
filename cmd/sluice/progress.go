package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress shows how far long work is, on a terminal. A nil progress shows
// nothing. Methods may be called concurrently.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins to show work of so many steps (-1: unknown), counted as
// bytes or as things of a kind; nil where w is no terminal.
func newProgress(w io.Writer, doing string, total int64, kind string) *progress {
	if !isTerminal(w) {
		return nil
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(doing),
		progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(30),
	}
	if kind == "bytes" {
		options = append(options, progressbar.OptionShowBytes(true))
	} else {
		options = append(options, progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(kind))
	}
	return &progress{progressbar.NewOptions64(total, options...)}
}

// add makes n more steps.
func (p *progress) add(n int64) {
	if p != nil {
		_ = p.bar.Add64(n) // a bar that cannot be drawn is no failure of the work
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p != nil {
		_ = p.bar.Finish()
	}
}
