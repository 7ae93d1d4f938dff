package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// collectRatio is the share of a value log file that must be garbage for it to
// be rewritten.
const collectRatio = 0.5

// collect rewrites value log files that are mostly garbage until none is left.
// Badger learns of garbage only when a compaction meets the removed key, and
// compacts as its tables fill, which the small keys here hardly do; so when
// enough was removed and did not come back, compactions are forced.
func (s *Store) collect(ctx context.Context) error {
	before, err := s.valueLogBytes()
	if err != nil {
		return err
	}
	if err := s.collectFiles(ctx); err != nil {
		return err
	}
	if s.sweeper.garbage >= s.cfg.ReclaimMinBytes && s.sweeper.garbage > 0 {
		if err := s.compact(ctx); err != nil {
			return err
		}
		if err := s.collectFiles(ctx); err != nil {
			return err
		}
		s.sweeper.garbage = 0
	}
	after, err := s.valueLogBytes()
	if err == nil && after < before {
		s.sweeper.garbage = max(0, s.sweeper.garbage-(before-after))
		s.log.Info("disk space given back", "bytes", before-after, "value_log_bytes", after)
	}
	return err
}

// collectFiles rewrites value log files while one is worth it.
func (s *Store) collectFiles(ctx context.Context) error {
	for ctx.Err() == nil {
		file, err := s.nextCollectable()
		if err != nil || file == "" {
			return err
		}
		err = s.collectFile(file)
		if errors.Is(err, badger.ErrNoRewrite) || errors.Is(err, badger.ErrRejected) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// collectFile lets Badger rewrite the file that is next.
func (s *Store) collectFile(file string) error {
	release, err := hold(s.cfg.Dir, file)
	if err != nil {
		return err
	}
	err = guarded(func() error { return s.db.RunValueLogGC(collectRatio) })
	return errors.Join(err, release())
}

// valueLogBytes returns the disk space of the sealed value log files.
func (s *Store) valueLogBytes() (int64, error) {
	entries, err := os.ReadDir(s.dbDir)
	var n int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".vlog") {
			n += info.Size()
		}
	}
	return n, err
}

// compact makes Badger meet the removed keys: it fills the memtable, so that it
// is written out, and then merges the newest tables with those below. While
// there is nothing below, Badger only merges a handful of new tables at once,
// so the first time takes as many rounds.
func (s *Store) compact(ctx context.Context) error {
	const roundsMax = 8
	for range roundsMax {
		old, err := s.memTables()
		if err != nil {
			return err
		}
		if err := s.fillMemTable(ctx); err != nil {
			return err
		}
		if err := s.flushed(ctx, old); err != nil {
			return err
		}
		if err := guarded(func() error { return s.db.Flatten(1) }); err != nil {
			return err
		}
		if s.db.Levels()[0].NumTables == 0 {
			return nil
		}
	}
	return nil
}

// fillMemTable writes as much as a memtable holds, and removes it again.
func (s *Store) fillMemTable(ctx context.Context) error {
	const valueBytes = valueThreshold - 1
	step := int(s.cfg.groupMemTableMax() / 2 / (valueBytes + 2*writeOverhead))
	filler := bytes.Repeat([]byte{'.'}, valueBytes)
	for filled := int64(0); filled <= s.cfg.MemTableBytes; filled += int64(step) * valueBytes {
		o := &op{kind: opForget}
		for i := range step {
			o.swept = append(o.swept, write{fmt.Appendf([]byte{keyFiller}, "%d", i), filler})
		}
		if err := s.do(ctx, o); err != nil {
			return err
		}
	}
	return s.forget(ctx, nil, []byte{keyFiller}, nil)
}

// memTables returns the names of the memtables that have files.
func (s *Store) memTables() ([]string, error) {
	entries, err := os.ReadDir(s.dbDir)
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".mem") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// flushed waits until memtables have become tables, which Badger shows only by
// removing their files.
func (s *Store) flushed(ctx context.Context, names []string) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	give := time.NewTimer(time.Minute)
	defer give.Stop()
	for {
		now, err := s.memTables()
		if err != nil {
			return err
		}
		if !containsAny(now, names) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-give.C:
			return errors.New("the database did not write out its memtables within a minute")
		case <-look.C:
		}
	}
}

func containsAny(names, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(name string) bool {
		return slices.Contains(names, name)
	})
}
