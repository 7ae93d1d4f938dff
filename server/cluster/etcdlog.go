package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logCore passes what etcd logs on to slog, from warnings up; what is less
// urgent, and what is no news inside Sluice, is shown at debug level only.
type logCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// expected are warnings that an etcd without listeners of its own always has,
// that of one that still reads its log after a crash, and what members say of
// each other at a stop or a join beside the one line that a peer is inactive.
var expected = []string{
	"failed to publish local member to cluster through raft",
	"Running http and grpc server on single port. This is not recommended for production.",
	"simple token is not cryptographically signed",
	"Failed to detect schema version",
	"failed to update storage version",
	"check file permission",
	"setting up serving from embedded etcd failed.",
	"Validation on configuration change failed",
	"rejecting promote learner: learner is not ready",
	"lost TCP streaming connection with remote peer",
	"closed TCP streaming connection with remote peer",
	"closed existing TCP streaming connection with remote peer",
	"prober detected unhealthy status",
	"failed to reach the peer URL",
	"failed to get version",
}

// etcdLogger returns the logger that etcd writes to. Where etcd would end the
// process, which it does by way of its logger, fatal gets the reason instead,
// and only the goroutine ends: nothing is written after that, and the node can
// stop in order.
func etcdLogger(log *slog.Logger, fatal func(error)) *zap.Logger {
	core := &logCore{log: log.With("part", "etcd")}
	hook := fatalHook(fatal)
	return zap.New(core, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type fatalHook func(error)

// OnWrite reports a fatal entry and ends the goroutine.
func (h fatalHook) OnWrite(checked *zapcore.CheckedEntry, fields []zapcore.Field) {
	h(errors.New(describe(checked.Message, fields)))
	runtime.Goexit()
}

// describe writes a message and the error that comes with it.
func describe(message string, fields []zapcore.Field) string {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return fmt.Sprintf("%s: %v", message, err)
		}
	}
	return message
}

func (c *logCore) level(entry zapcore.Entry) slog.Level {
	switch {
	case entry.Level < zapcore.WarnLevel || slices.Contains(expected, entry.Message):
		return slog.LevelDebug
	case entry.Level == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Enabled implements zapcore.LevelEnabler.
func (c *logCore) Enabled(level zapcore.Level) bool {
	return c.log.Enabled(context.Background(), c.level(zapcore.Entry{Level: level}))
}

// With implements zapcore.Core.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{log: c.log, fields: append(slices.Clip(c.fields), fields...)}
}

// Check implements zapcore.Core.
func (c *logCore) Check(
	entry zapcore.Entry, checked *zapcore.CheckedEntry,
) *zapcore.CheckedEntry {
	if c.log.Enabled(context.Background(), c.level(entry)) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *logCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(encoder)
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for _, name := range slices.Sorted(maps.Keys(encoder.Fields)) {
		attrs = append(attrs, slog.Any(name, encoder.Fields[name]))
	}
	c.log.LogAttrs(context.Background(), c.level(entry), entry.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (c *logCore) Sync() error { return nil }
