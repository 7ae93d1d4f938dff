package sluice_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestInvariantsAreChecked holds the table of the replication page against the files
// that it names: each has to name the invariants that it is said to check, and each
// invariant of the list has to be in the table.
func TestInvariantsAreChecked(t *testing.T) {
	page, err := os.ReadFile("docs/design/replication.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Invariants\n")
	section, _, _ = strings.Cut(section, "\n## ")
	name, file := regexp.MustCompile(`\bI\d+\b`), regexp.MustCompile("`([^`]+)`")
	checked := map[string]bool{}
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| I") || !name.MatchString(line) {
			continue
		}
		for _, f := range file.FindAllStringSubmatch(line, -1) {
			source, err := os.ReadFile(f[1])
			if err != nil {
				t.Error(err)
			}
			for _, invariant := range name.FindAllString(line, -1) {
				checked[invariant] = true
				if !regexp.MustCompile(`\b` + invariant + `\b`).Match(source) {
					t.Errorf("%s does not name %s, which it checks", f[1], invariant)
				}
			}
		}
	}
	list, _, _ := strings.Cut(section, "\n\nI4 is")
	for _, invariant := range name.FindAllString(list, -1) {
		if !checked[invariant] {
			t.Errorf("%s is checked nowhere", invariant)
		}
	}
	if len(checked) < 15 {
		t.Errorf("the table has %d invariants", len(checked))
	}
}
