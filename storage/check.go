package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CheckReport is what Check found out about a data directory.
type CheckReport struct {
	Dir       string `json:"dir"`
	Format    int    `json:"format_version"`
	ClusterID string `json:"cluster_id"`
	NodeID    int32  `json:"node_id"`
	DirID     string `json:"dir_id"`
	// Verdict is what a start would come to now, and Reasons why it is LOSSY.
	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons"`
	// Commit is the number of the last commit.
	Commit uint64 `json:"commit"`
	// FailedStarts counts starts that did not come to their end.
	FailedStarts int               `json:"failed_starts"`
	Files        []FileReport      `json:"files"`
	Partitions   []PartitionReport `json:"partitions"`
}

// FileReport is what Check found out about a file.
type FileReport struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	Problem string `json:"problem,omitempty"` // empty if it reads well
}

// PartitionReport is what Check found out about a partition.
type PartitionReport struct {
	ID          string      `json:"partition_id"`
	Start       Offset      `json:"log_start_offset"`
	End         Offset      `json:"end_offset"`
	LeaderEpoch LeaderEpoch `json:"leader_epoch"`
	// Batches and Bytes count what reads well, Damaged the places where the
	// log does not read on. Problem is the first of them.
	Batches int64  `json:"batches"`
	Bytes   int64  `json:"bytes"`
	Damaged int64  `json:"damaged"`
	Problem string `json:"problem,omitempty"`
}

// Damaged reports whether anything is missing or does not read well.
func (r *CheckReport) Damaged() bool {
	return len(r.Reasons) > 0 ||
		slices.ContainsFunc(r.Files, func(f FileReport) bool { return f.Problem != "" }) ||
		slices.ContainsFunc(r.Partitions, func(p PartitionReport) bool { return p.Damaged > 0 })
}

// Check reads everything in a data directory and reports what a start would find
// and which files and partitions are damaged. It changes nothing: what a start
// would change is copied to a temporary directory first. The directory is locked
// meanwhile; a node that runs makes it ErrLocked. A report with damage is no
// error.
func Check(ctx context.Context, dir string) (*CheckReport, error) {
	r := &CheckReport{Dir: dir, Reasons: []string{}, Partitions: []PartitionReport{}}
	err := inspectDir(ctx, dir, func(m meta, s *Store, openErr error) error {
		r.Format, r.ClusterID, r.NodeID, r.DirID = m.Format, m.ClusterID, m.NodeID, m.DirID
		var err error
		if r.FailedStarts, _, err = readAttempts(dir); err != nil {
			return err
		}
		if r.Files, err = checkFiles(dir, m.DirID); err != nil {
			return err
		}
		if openErr != nil {
			r.Reasons = append(r.Reasons, openErr.Error())
			return nil
		}
		r.Verdict, r.Commit = s.Verdict(), uint64(s.durable.Load())
		for _, reason := range s.reasons { // of the copy
			r.Reasons = append(r.Reasons, strings.ReplaceAll(reason, s.cfg.Dir, dir))
		}
		return r.checkPartitions(ctx, s)
	})
	return r, err
}

// checkPartitions reads all batches.
func (r *CheckReport) checkPartitions(ctx context.Context, s *Store) error {
	var tables Scrubbed
	if err := s.scrubTables(&tables); err != nil {
		return err
	}
	if tables.TablesDamaged {
		r.Reasons = append(r.Reasons, "index tables (.sst) fail their checksums")
	}
	ps := s.all()
	slices.SortFunc(ps, func(a, b *Partition) int {
		return strings.Compare(a.id.String(), b.id.String())
	})
	for _, p := range ps {
		var found Scrubbed
		if err := s.scrubPartition(ctx, p, 0, &found); err != nil {
			return err
		}
		state := p.state.Load()
		one := PartitionReport{
			ID: p.id.String(), Start: state.start, End: state.end, LeaderEpoch: state.epoch(),
			Batches: found.Batches, Bytes: found.Bytes, Damaged: found.Damaged,
		}
		if err := p.Corrupt(); err != nil {
			one.Problem = err.Error()
		}
		r.Partitions = append(r.Partitions, one)
	}
	return nil
}

// checkFiles looks at each file by itself.
func checkFiles(dir, dirID string) ([]FileReport, error) {
	files := []FileReport{}
	sizes, err := databaseFiles(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for name, size := range sizes {
		f := FileReport{Name: name, Bytes: size}
		if err := checkFile(dir, dirID, name); err != nil {
			f.Problem = err.Error()
		}
		files = append(files, f)
	}
	small := FileReport{Name: checkpointName}
	if info, err := os.Stat(filepath.Join(dir, checkpointName)); err == nil {
		small.Bytes = info.Size()
	}
	if _, err := readCheckpoint(dir); err != nil {
		small.Problem = err.Error()
	}
	files = append(files, small)
	slices.SortFunc(files, func(a, b FileReport) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// checkFile checks one of the files. The rest of a table is checked by Badger, as it is
// open.
func checkFile(dir, dirID, name string) error {
	switch filepath.Ext(name) {
	case journalExt:
		return checkJournalFile(dir, dirID, name)
	case ".sst":
		return readTable(filepath.Join(dir, name))
	case "":
		b, err := os.ReadFile(filepath.Join(dir, name))
		if _, end := parseManifest(b); err == nil && end < len(b) {
			err = fmt.Errorf("does not read behind byte %d of %d", end, len(b))
		}
		return err
	}
	return nil
}

// checkJournalFile reads the head and the frames of a journal file. The end of the newest
// may be cut short, which a start mends.
func checkJournalFile(dir, dirID, name string) error {
	sizes, err := listJournal(filepath.Join(dir, journalName))
	if err != nil {
		return err
	}
	newest := slices.Max(slices.Collect(maps.Keys(sizes)))
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(
		strings.TrimSuffix(filepath.Base(name), journalExt), 10, 32)
	if err != nil {
		return err
	}
	head, seal, err := readHead(f, uint32(number), dirID)
	if err == nil && name != journalFileName(newest) {
		_, err = checkJournalHead(head, uint32(number), dirID)
	}
	if err != nil {
		return err
	}
	r := &replay{next: 1, seal: seal}
	for at := int64(journalHeadBytes); at < info.Size(); {
		h, _, err := r.frame(f, position{At: uint32(at)}, info.Size())
		if err != nil && name == journalFileName(newest) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("does not read at byte %d of %d: %w", at, info.Size(), err)
		}
		at += h.bytes()
	}
	return nil
}

// inspectDir opens a copy of what is in a data directory, under its lock, and
// calls fn with it, or with the error of a start.
func inspectDir(
	ctx context.Context, dir string, fn func(m meta, s *Store, openErr error) error,
) error {
	lock, err := os.Open(filepath.Join(dir, lockName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		defer lock.Close()
		if err := lockFile(lock); err != nil {
			return fmt.Errorf("%w: %s; stop the node first", err, dir)
		}
	}
	m, found, err := readMeta(dir)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s is no data directory: it has no %s", dir, metaName)
	}
	cfg := DefaultConfig()
	cfg.Dir, cfg.ClusterID, cfg.NodeID = dir, m.ClusterID, m.NodeID
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.inspect = true
	if err := m.check(cfg); err != nil {
		return err
	}
	if cfg.Dir, err = os.MkdirTemp("", "sluice-check-"); err != nil {
		return err
	}
	defer os.RemoveAll(cfg.Dir)
	if err := stage(dir, cfg.Dir); err != nil {
		return fmt.Errorf("copying what a start would change: %w", err)
	}
	s, openErr := open(ctx, cfg.withDefaults())
	if openErr != nil {
		text := strings.ReplaceAll(openErr.Error(), cfg.Dir, dir)
		return fn(m, nil, errors.New(text))
	}
	err = fn(m, s, nil)
	s.readers.close()
	return errors.Join(err, s.tasks.Close(), s.closeFiles())
}

// stage makes a directory that a store can be opened in without changing the
// one that it stands for: files that do not change are links where they can be.
func stage(from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch ext := filepath.Ext(name); {
		case e.IsDir():
			return os.MkdirAll(target, 0o700)
		case name == ballastName || name == lockName || e.Name() == "LOCK":
			return nil
		case ext == ".mem", ext == ".vlog", e.Name() == "DISCARD", e.Name() == "KEYREGISTRY":
			return nil // a start drops them
		case ext == journalExt, ext == ".sst" && writable(path):
			return os.Symlink(path, target)
		}
		return copyFile(path, target)
	})
}

// writable reports whether a file can be opened as Badger opens its tables, which it
// does not write to: on a read-only mount it cannot.
func writable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return err == nil && f.Close() == nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
