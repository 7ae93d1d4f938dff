package main

import (
	"regexp"
	"slices"
	"strings"
)

// block is a fenced block of a page.
type block struct {
	line  int // of the first line inside
	words []string
	text  string
}

// commands reports whether the block is one of commands.
func (b block) commands() bool { return len(b.words) > 0 && b.words[0] == "sh" }

// machine returns the address after "at" in the fence, or "".
func (b block) machine() string {
	if i := slices.Index(b.words, "at"); i >= 0 && i+1 < len(b.words) {
		return b.words[i+1]
	}
	return ""
}

// is reports whether the fence says word after its language.
func (b block) is(word string) bool { return len(b.words) > 1 && b.words[1] == word }

// parse returns the fenced blocks of a page in order.
func parse(page string) []block {
	var blocks []block
	var open *block
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{line: i + 2, words: strings.Fields(fence)}
		case isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return blocks
}

// outputAfter returns the output that the page shows right after block i.
func outputAfter(blocks []block, i int) (want string, ok bool) {
	if i+1 < len(blocks) {
		next := blocks[i+1]
		if len(next.words) > 0 && next.words[0] == "text" {
			return next.text, true
		}
	}
	return "", false
}

// pattern turns a printed output into an expression that matches it: "..."
// alone stands for any lines, within a line for anything in it.
func pattern(want string) *regexp.Regexp {
	var expression strings.Builder
	expression.WriteString(`\A`)
	for line := range strings.Lines(strings.TrimRight(want, "\n") + "\n") {
		line = strings.TrimSuffix(line, "\n")
		if strings.TrimSpace(line) == "..." {
			expression.WriteString(`(?:.*\n)*?`)
			continue
		}
		pieces := strings.Split(strings.TrimRight(line, " "), "...")
		for i, piece := range pieces {
			if i > 0 {
				expression.WriteString(`.*`)
			}
			expression.WriteString(regexp.QuoteMeta(piece))
		}
		expression.WriteString(` *\n`)
	}
	expression.WriteString(`\z`)
	return regexp.MustCompile(expression.String())
}

// matches reports whether a command printed what the page shows.
func matches(want, got string) bool {
	return pattern(want).MatchString(strings.TrimRight(got, "\n") + "\n")
}
