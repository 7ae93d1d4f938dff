package storage

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// badgerLog hands Badger's log lines to slog, and catches the failures that
// Badger only logs: above all a memtable that cannot be written to a table.
type badgerLog struct {
	log    *slog.Logger
	failed atomic.Pointer[string]
}

// fatalFormats begin the messages after which the database can no longer be
// relied on.
var fatalFormats = []string{
	"writeRequests",
	"error flushing memtable",
	"Got error: %v for id",
}

// Errorf takes what Badger calls an error.
func (l *badgerLog) Errorf(format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	for _, fatal := range fatalFormats {
		if strings.HasPrefix(format, fatal) {
			l.failed.CompareAndSwap(nil, &text)
		}
	}
	l.log.Error("badger: " + text)
}

// Warningf takes Badger's warnings.
func (l *badgerLog) Warningf(format string, args ...any) {
	l.log.Warn("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Infof takes what Badger finds worth knowing; operators rarely do.
func (l *badgerLog) Infof(format string, args ...any) { l.debug(format, args) }

// Debugf takes the rest.
func (l *badgerLog) Debugf(format string, args ...any) { l.debug(format, args) }

func (l *badgerLog) debug(format string, args []any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// err returns the failure that Badger logged, if there was one.
func (l *badgerLog) err() error {
	if text := l.failed.Load(); text != nil {
		return fmt.Errorf("database: %s", *text)
	}
	return nil
}
