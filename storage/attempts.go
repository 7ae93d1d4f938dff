package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// attemptsName is the file that counts starts which did not come to their end,
// with the reason of the last one. Badger panics on some damaged files in
// goroutines of its own, so a process may die while it opens; a supervisor would
// start it again for ever. After attemptsMax the store stays down until an
// operator removes the file.
const attemptsName = "attempts"

const attemptsMax = 3

// ErrTooManyAttempts is returned by Open when the last starts did not come to
// their end. ClearAttempts lets the next one try again.
var ErrTooManyAttempts = errors.New("the store stays down")

// readAttempts returns how many starts failed, and why the last one did.
func readAttempts(dir string) (count int, reason string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, attemptsName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	number, reason, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	// A file that does not read was cut short, and counts as one.
	if count, err = strconv.Atoi(number); err != nil || count < 1 {
		count = 1
	}
	if reason == "" {
		reason = "the process ended before the store was open; its output says more"
	}
	return count, reason, nil
}

// beginAttempt counts a start, and refuses it if too many failed before.
func beginAttempt(dir string) (count int, err error) {
	count, reason, err := readAttempts(dir)
	if err != nil {
		return 0, err
	}
	if count >= attemptsMax {
		return count, fmt.Errorf("%w: the last %d starts in %s failed, the last one because: "+
			"%s. When the cause is gone, remove %s, or run: sluice storage retry %s",
			ErrTooManyAttempts, count, dir, reason, filepath.Join(dir, attemptsName), dir)
	}
	count++
	return count, replaceFile(dir, attemptsName, fmt.Appendf(nil, "%d\n", count))
}

// failAttempt notes why a start failed.
func failAttempt(dir string, count int, why error) error {
	reason := strings.Join(strings.Fields(why.Error()), " ")
	return replaceFile(dir, attemptsName, fmt.Appendf(nil, "%d %.2000s\n", count, reason))
}

// ClearAttempts forgets the starts that failed, so that Open tries again. It
// returns how many they were, and the reason of the last one.
func ClearAttempts(dir string) (count int, reason string, err error) {
	if count, reason, err = readAttempts(dir); err != nil || count == 0 {
		return count, reason, err
	}
	if err := os.Remove(filepath.Join(dir, attemptsName)); err != nil {
		return count, reason, err
	}
	return count, reason, syncDir(dir)
}
