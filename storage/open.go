package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluicelog/sluice/internal/run"
)

// Open opens the store in cfg.Dir, which is made if it is missing. It reads
// little: after a clean stop its time does not grow with the data, after a
// crash it reads again what was written in the last moments.
//
// A directory that another process has is ErrLocked. One that belongs to
// another node or cluster, that a newer version wrote, or that holds a log but
// not whose, is refused. Data that is missing or damaged is no error but the
// verdict LOSSY, with the reasons in the log.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := openCounted(ctx, cfg)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	s.start()
	return s, nil
}

// openCounted opens the store unless too many starts failed, and counts.
func openCounted(ctx context.Context, cfg Config) (*Store, error) {
	if err := checkIdentity(cfg); err != nil {
		return nil, err // which says nothing of what is in the directory
	}
	if dropped, err := dropBallast(cfg); err != nil {
		return nil, err
	} else if dropped {
		cfg.Logger.Warn("the disk is nearly full; removed the ballast so that the log opens",
			"file", filepath.Join(cfg.Dir, ballastName))
	}
	count, err := beginAttempt(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg)
	if err != nil && ctx.Err() == nil {
		return nil, errors.Join(err, failAttempt(cfg.Dir, count, err))
	}
	if _, _, clearErr := ClearAttempts(cfg.Dir); err == nil && clearErr != nil {
		return nil, errors.Join(clearErr, s.db.Close())
	}
	return s, err
}

// checkIdentity refuses the directory of another node, cluster or version.
func checkIdentity(cfg Config) error {
	m, found, err := readMeta(cfg.Dir)
	if err == nil && found {
		err = m.check(cfg)
	}
	return err
}

// lockDir makes the directory and locks it for this process.
func lockDir(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be made: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s cannot be written to: %w", dir, err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("%w: %s", err, dir)
		}
		return nil, fmt.Errorf("data directory %s cannot be locked: %w", dir, err)
	}
	return f, nil
}

// makeDir makes a directory and those above it, and their names durable: a log
// whose directory a power cut takes away is gone with all that was synced in it.
func makeDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := syncDir(parent); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	return err
}

// open does the work of Open under the lock, and starts no goroutine of ours.
func open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{
		cfg: cfg, log: cfg.Logger, dbDir: filepath.Join(cfg.Dir, databaseName),
		queue: newQueue(cfg.QueueMaxBytes), commits: make(chan *group),
		idle:   make(chan time.Duration, 1),
		failed: make(chan struct{}), closed: make(chan struct{}),
		swept: make(chan struct{}), checkpointing: make(chan struct{}, 1),
		partitions: map[PartitionID]*Partition{}, deleting: map[PartitionID]bool{},
	}
	s.full.Store(-1)
	s.sweeper.init()
	s.cleaner.init(&cfg)
	s.clock.jumpMax.Store(int64(cfg.ClockJumpMax))
	s.clock.changed = make(chan struct{}, 1)
	found, err := s.identify()
	if err != nil {
		return nil, err
	}
	var behind uint64
	if behind, found.damage = saveLastValueLog(s.dbDir); found.damage != nil &&
		!errors.Is(found.damage, errDamage) {
		return nil, fmt.Errorf("opening the log in %s: %w", s.dbDir, found.damage)
	}
	if found.mended, err = mendManifest(s.dbDir); err == nil {
		found.memtables, err = readMemtables(s.dbDir)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the log in %s: %w", s.dbDir, err)
	}
	if last := found.memtables.last; !found.clean && last > 0 && behind >= last {
		found.damage = nil // of the commit that was cut off; examine reads what it left
	}
	s.dbLog = &badgerLog{log: cfg.Logger}
	if s.db, err = openDatabase(s.dbDir, cfg, s.dbLog); err != nil {
		return nil, fmt.Errorf("opening the log in %s: %w", s.dbDir, err)
	}
	found.gap = found.memtables.gap(s.db, found.mended.rest)
	restored, err := restoreHeld(cfg.Dir, s.db)
	if restored > 0 {
		s.log.Warn("put back batches whose rewriting was cut off", "count", restored)
	}
	if err == nil {
		err = s.load(ctx)
	}
	if err == nil {
		err = s.decide(found)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the log in %s: %w", s.dbDir, err),
			s.db.Close())
	}
	s.engine = engine{
		commit: commitTo(s.db),
		free:   func() (int64, error) { return freeBytes(cfg.Dir) },
	}
	if cfg.wrap != nil {
		s.engine = cfg.wrap(s.engine)
	}
	s.tasks = run.New(context.WithoutCancel(ctx), "storage")
	return s, nil
}

// evidence is what was found before the database was opened.
type evidence struct {
	commit uint64   // in the clean marker
	clean  bool     // there is one
	damage error    // of the last value log file
	files  findings // what the clean marker says of files, and is not so
	mended mended   // tables that were missing
	memtables
	gap string // commits that are in no table and no memtable, or ""
}

// identify reads whose directory this is, makes it ours if it is new, and takes
// the clean marker away, so that from here on only a whole Close makes the next
// start CLEAN.
func (s *Store) identify() (evidence, error) {
	dir := s.cfg.Dir
	m, found, err := readMeta(dir)
	if err != nil {
		return evidence{}, err
	}
	if !found {
		if entries, err := os.ReadDir(s.dbDir); err == nil && len(entries) > 0 {
			return evidence{}, fmt.Errorf("data directory %s holds a log but no %s to say "+
				"whose: put the file back, or move %s away to begin anew", dir, metaName, s.dbDir)
		}
		m = newMeta(s.cfg)
		if err := m.write(dir); err != nil {
			return evidence{}, err
		}
	}
	if err := m.check(s.cfg); err != nil {
		return evidence{}, err
	}
	if !m.Initialised {
		// The first start did not come to its end, so nothing was answered.
		if err := os.RemoveAll(s.dbDir); err != nil {
			return evidence{}, err
		}
	}
	s.meta = m
	removed, err := removeEmptyFiles(s.dbDir)
	if err != nil {
		return evidence{}, err
	}
	if len(removed) > 0 {
		s.log.Warn("removed empty files that a power cut left", "files", removed)
	}
	if err := makeDir(s.dbDir); err != nil {
		return evidence{}, err
	}
	return takeClean(dir)
}

// load reads the small keys: the states of all partitions, their segments and
// epochs, and what is being deleted.
func (s *Store) load(ctx context.Context) error {
	number, err := lookup(s.db, []byte{keyCommit})
	if err != nil {
		return err
	}
	if len(number) == 8 {
		s.durable.Store(int64(binary.BigEndian.Uint64(number)))
	}
	s.db.SetDiscardTs(uint64(s.durable.Load()))
	if err := s.clock.load(s.db); err != nil {
		return err
	}
	states := map[PartitionID]*logState{}
	err = s.each(ctx, keyState, func(id PartitionID, item *badger.Item) error {
		return item.Value(func(v []byte) (err error) {
			states[id], err = decodeState(v)
			return err
		})
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, keySegment, func(id PartitionID, item *badger.Item) error {
		return item.Value(func(v []byte) error {
			seg, err := decodeSegment(v)
			if state := states[id]; err == nil && state != nil && seg.end > state.start {
				state.sealed = append(state.sealed, seg)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, keyEpochs, func(id PartitionID, item *badger.Item) error {
		return item.Value(func(v []byte) error {
			epochs, err := decodeEpochs(v)
			if state := states[id]; err == nil && state != nil {
				state.epochs = epochs
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	for id, state := range states {
		p := newPartition(s, id, state)
		p.created.Store(true)
		s.partitions[id] = p
	}
	return s.each(ctx, keyDeleted, func(id PartitionID, _ *badger.Item) error {
		s.deleting[id] = true
		return nil
	})
}

// each calls fn for every key of a kind.
func (s *Store) each(
	ctx context.Context, kind byte, fn func(PartitionID, *badger.Item) error,
) error {
	prefix := []byte{kind}
	return guarded(func() error {
		return scan(s.db, prefix, prefix, func(item *badger.Item) (bool, error) {
			id, err := parseID(item.Key())
			if err == nil {
				err = fn(id, item)
			}
			if err != nil {
				return false, fmt.Errorf("key %x: %w", item.Key(), err)
			}
			return true, ctx.Err()
		})
	})
}

// decide reaches the verdict and keeps it, if it is one to be kept.
func (s *Store) decide(found evidence) error {
	verdict, reasons := VerdictNew, findings(nil)
	if s.meta.Initialised {
		if verdict, reasons = s.examine(found); len(reasons) > 0 {
			verdict = VerdictLossy
		}
	}
	log := s.log.With("dir", s.cfg.Dir, "verdict", string(verdict),
		"partitions", len(s.partitions), "commit", s.durable.Load())
	s.reasons = reasons
	if verdict == VerdictLossy {
		log.Error("the log has lost or damaged records that were acknowledged",
			"reasons", reasons.String())
	} else {
		log.Info("log opened")
	}
	// A second crash must not make a NEW or LOSSY that nobody noted go away.
	if s.meta.Verdict != "" && verdict != VerdictLossy {
		verdict = s.meta.Verdict
	}
	if err := s.checkpoint().write(s.cfg.Dir); err != nil {
		return err
	}
	s.meta.Verdict, s.meta.Initialised = "", true
	if verdict == VerdictNew || verdict == VerdictLossy {
		s.meta.Verdict = verdict
	}
	if err := s.meta.write(s.cfg.Dir); err != nil {
		return err
	}
	s.meta.Verdict = verdict
	return nil
}

// start runs the goroutines.
func (s *Store) start() {
	if err := advise(s.dbDir); err != nil {
		s.log.Warn("cannot advise the kernel about mapped files", "error", err)
	}
	s.lookAtSpace()
	if err := keepBallast(s.cfg); err != nil {
		s.log.Warn("cannot keep a ballast file", "dir", s.cfg.Dir, "error", err)
	}
	s.tasks.Go("scrubber", s.scrubLoop)
	s.tasks.Go("writer", s.writeLoop)
	s.tasks.Go("commits", s.commitLoop)
	s.tasks.Go("checkpoints", s.checkpointLoop)
	s.tasks.Go("sweeper", s.sweepLoop)
	s.tasks.Go("retention", s.retentionLoop)
	s.tasks.Go("cleaner", s.cleanLoop)
}
