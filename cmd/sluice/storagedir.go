package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluicelog/sluice/storage"
)

// storageDir returns the directory of the log that an operator means: DIR itself, or
// the log in DIR where that is what --data-dir names.
func storageDir(dir string) (string, error) {
	for _, candidate := range []string{dir, filepath.Join(dir, "log")} {
		if _, err := os.Stat(filepath.Join(candidate, "meta.json")); err == nil {
			return candidate, nil
		}
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s does not exist: name the --data-dir of a node, or the log in it",
			dir)
	case err != nil:
		return "", fmt.Errorf("%s cannot be read: %w", dir, err)
	case len(entries) == 0:
		return "", fmt.Errorf("%s is empty: a node that starts on it begins a new log", dir)
	}
	return "", fmt.Errorf("%s holds no log: neither it nor %s has a meta.json, which says whose "+
		"log it is", dir, filepath.Join(dir, "log"))
}

// verdictText says what a verdict means and what to do.
func verdictText(r *storage.CheckReport) string {
	switch {
	case r.Verdict == "":
		return "it does not open, for the reasons below; nothing was changed: keep a copy before " +
			"anything else"
	case r.Verdict == storage.VerdictLossy && len(r.Reasons) == 0:
		return "an earlier start found a loss, and no node has taken note of it yet"
	case r.Verdict == storage.VerdictLossy:
		return "records that were acknowledged are missing or damaged, for the reasons below; " +
			"what is left can be read"
	case r.Damaged():
		return "it opens, and what is damaged below fails the reads that meet it"
	case r.Verdict == storage.VerdictNew:
		return "a new log: nothing was acknowledged yet"
	case r.Verdict == storage.VerdictRecovered:
		return "the last run was cut off; all that it acknowledged is there"
	}
	return "the last run stopped in order; all is there"
}
