package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluicelog/sluice/internal/fault"
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
		return nil, errors.Join(clearErr, s.closeFiles())
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
		queue:  newQueue(cfg.QueueMaxBytes),
		idle:   make(chan time.Duration, 1),
		failed: make(chan struct{}), closed: make(chan struct{}),
		swept: make(chan struct{}), checkpointing: make(chan struct{}, 1),
		partitions: map[PartitionID]*Partition{}, deleting: map[PartitionID]bool{},
	}
	s.full.Store(-1)
	s.sweeper.init()
	s.cleaner.init(&cfg)
	s.clock.interval.Store(int64(cfg.RetentionInterval))
	s.clock.jumpMax.Store(int64(cfg.ClockJumpMax))
	s.clock.changed = make(chan struct{}, 1)
	s.late.init()
	found, err := s.identify()
	if err == nil {
		err = s.openFiles(ctx, &found)
	}
	if err == nil {
		err = s.load(ctx)
	}
	if err == nil {
		err = s.decide(found)
	}
	if err != nil {
		err = fmt.Errorf("opening the log in %s: %w", cfg.Dir, err)
		return nil, errors.Join(err, s.closeFiles())
	}
	s.indexer.init(uint64(s.durable.Load()))
	s.engine = engine{
		sync: func(uint64) error { return s.journal.sync() },
		free: func() (int64, error) { return freeBytes(cfg.Dir) },
	}
	if cfg.wrap != nil {
		s.engine = cfg.wrap(s.engine)
	}
	s.tasks = run.New(context.WithoutCancel(ctx), "storage")
	return s, nil
}

// closeFiles closes what is open.
func (s *Store) closeFiles() error {
	var errs []error
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	if s.journal != nil {
		errs = append(errs, s.journal.close())
	}
	return errors.Join(errs...)
}

// evidence is what was found before the states were read.
type evidence struct {
	commit uint64   // in the clean marker
	clean  bool     // there is one
	files  findings // what the clean marker says of files, and is not so
	mended mended   // tables that were missing

	was    checkpoint
	wasErr error // why there is none
	replay findings
}

// openFiles opens the index and the journal, and takes the one to the end of the
// other.
func (s *Store) openFiles(ctx context.Context, found *evidence) error {
	found.was, found.wasErr = readCheckpoint(s.cfg.Dir)
	var err error
	if found.mended, err = mendManifest(s.dbDir); err != nil {
		return err
	}
	if s.index, err = openIndex(s.dbDir, s.cfg); err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.Dir, journalName)
	if s.journal, err = openJournal(dir, s.meta.DirID, &s.cfg); err != nil {
		return err
	}
	held, from := s.index.held(), s.index.held()
	if found.wasErr == nil {
		if safe := found.was.Indexed; safe.Commit < held.Commit {
			from = safe // the names of tables that came later may go with the next cut
		} else if safe.Commit > held.Commit {
			found.replay.addf("the index was at commit %d, and only %d is there", safe.Commit,
				held.Commit)
		}
	}
	r := &replay{
		j: s.journal, x: s.index, known: max(found.was.Commit, held.Commit),
		counted: found.was.Commit,
	}
	if !s.cfg.inspect {
		err := errors.Join(s.journal.secure(from.File), secureTables(s.dbDir))
		if err != nil {
			return err
		}
	}
	if err := r.run(ctx, from); err != nil {
		return err
	}
	found.replay = append(found.replay, r.bad...)
	last := r.next - 1
	if held.Commit > last {
		found.replay.addf("the index holds commit %d, and the journal ends with %d",
			held.Commit, last)
	}
	s.written.Store(int64(last))
	s.durable.Store(int64(last))
	s.journal.least = held.File
	s.countDead(found)
	if s.cfg.inspect {
		return nil
	}
	return s.journal.begin(r.end)
}

// countDead takes over what the last checkpoint says of the journal's files. One
// that it does not know is newer, or was about to be removed.
func (s *Store) countDead(found *evidence) {
	if found.wasErr != nil {
		return
	}
	counts := map[uint32]fileCount{}
	newest := uint32(0)
	for _, c := range found.was.Files {
		counts[c.File], newest = c, max(newest, c.File)
		if s.journal.files[c.File] == nil {
			found.replay.addf("journal file %d is missing", c.File)
		}
	}
	for number, f := range s.journal.files {
		c, known := counts[number]
		if !known && number < newest {
			c.Values, c.Dead = f.size.Load(), f.size.Load()
		}
		f.values.Add(c.Values)
		f.dead.Store(c.Dead)
	}
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
		for _, name := range []string{databaseName, journalName} {
			entries, err := os.ReadDir(filepath.Join(dir, name))
			if err == nil && len(entries) > 0 {
				return evidence{}, fmt.Errorf("data directory %s holds a log but no %s to say "+
					"whose: put the file back, or move the directory away to begin anew", dir,
					metaName)
			}
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
		for _, name := range []string{databaseName, journalName} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return evidence{}, err
			}
		}
	}
	s.meta = m
	if err := makeDir(s.dbDir); err != nil {
		return evidence{}, err
	}
	return takeClean(dir)
}

// load reads the small keys: the states of all partitions, their segments and
// epochs, and what is being deleted.
func (s *Store) load(ctx context.Context) error {
	if err := s.clock.load(s); err != nil {
		return err
	}
	states := map[PartitionID]*logState{}
	err := s.each(ctx, keyState, func(id PartitionID, v []byte) (err error) {
		states[id], err = decodeState(v)
		return err
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, keySegment, func(id PartitionID, v []byte) error {
		seg, err := decodeSegment(v)
		if state := states[id]; err == nil && state != nil && seg.end > state.start {
			state.sealed = append(state.sealed, seg)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = s.each(ctx, keyEpochs, func(id PartitionID, v []byte) error {
		epochs, err := decodeEpochs(v)
		if state := states[id]; err == nil && state != nil {
			state.epochs = epochs
		}
		return err
	})
	if err != nil {
		return err
	}
	for id, state := range states {
		p := newPartition(s, id, state)
		p.created.Store(true)
		if state.condemned {
			p.corrupt.Store(fault.CorruptLog.With("partition_id", id, "offset", -1).Because(
				"it was found before the last start"))
		}
		s.partitions[id] = p
	}
	return s.each(ctx, keyDeleted, func(id PartitionID, _ []byte) error {
		s.deleting[id] = true
		return nil
	})
}

// each calls fn for every key of a kind, with its value.
func (s *Store) each(
	ctx context.Context, kind byte, fn func(PartitionID, []byte) error,
) error {
	prefix := []byte{kind}
	return guarded(func() error {
		return scan(s.index.db, prefix, prefix, func(item *badger.Item) (bool, error) {
			id, err := parseID(item.Key())
			if err == nil {
				err = item.Value(func(v []byte) error {
					value, err := s.resolve(v)
					if err == nil {
						err = fn(id, value)
					}
					return err
				})
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
	s.meta.Verdict, s.meta.Initialised, s.meta.Format = "", true, formatVersion
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
	s.lookAtSpace()
	if err := keepBallast(s.cfg); err != nil {
		s.log.Warn("cannot keep a ballast file", "dir", s.cfg.Dir, "error", err)
	}
	s.keepBegun()
	s.beginClock()
	s.tasks.Go("scrubber", s.scrubLoop)
	s.tasks.Go("writer", s.writeLoop)
	s.tasks.Go("syncs", s.syncLoop)
	s.tasks.Go("index", s.indexLoop)
	s.tasks.Go("checkpoints", s.checkpointLoop)
	s.tasks.Go("sweeper", s.sweepLoop)
	s.tasks.Go("retention", s.retentionLoop)
	s.tasks.Go("cleaner", s.cleanLoop)
}
