package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// replay takes the index from the commits that its tables hold to the end of the
// journal, and finds that end.
//
// The last frames may be cut short or missing: what was not synced when the
// power went may be there, or not, or some of it. A frame that does not read is
// the end if nothing says that it was ever on disk. The checkpoint may say so, and so
// may any later frame, as each names the last commit that was synced before it;
// then the frame is damaged, and what follows it still counts.
type replay struct {
	j     *journal
	x     *index
	known uint64 // the last commit that was certainly on disk; later ones are read whole

	counted uint64 // the last commit whose values the files' counts have

	seal uint32 // of the file that is read
	next uint64 // number of the commit that comes next
	end  position
	bad  findings
	c    changes
}

// replayApplyMax is after how many changes they are applied.
const replayApplyMax = 4096

// run replays the journal from a mark on.
func (r *replay) run(ctx context.Context, from mark) error {
	r.next, r.end = from.Commit+1, from.position
	numbers := r.j.numbers()
	for len(numbers) > 0 && numbers[0] < from.File {
		numbers = numbers[1:]
	}
	at := int64(max(from.At, journalHeadBytes))
	if from.File > 0 && (len(numbers) == 0 || numbers[0] != from.File) {
		r.bad.addf("journal file %d is missing", from.File)
		r.end, at = position{from.File + 1, 0}, journalHeadBytes
	}
	for i := range numbers {
		stop, err := r.file(ctx, numbers[i:], at)
		if err != nil {
			return err
		}
		if stop {
			break
		}
		at = journalHeadBytes
	}
	return r.apply()
}

// file replays the first of some files from a place on. It reports whether the
// journal ends there.
func (r *replay) file(ctx context.Context, numbers []uint32, at int64) (stop bool, err error) {
	number := numbers[0]
	f, err := os.Open(r.j.path(number))
	if err != nil {
		return false, err
	}
	defer f.Close()
	head, seal, err := readHead(f, number, r.j.dirID)
	if err != nil {
		return false, err
	}
	r.seal = seal
	if _, err := checkJournalHead(head, number, r.j.dirID); err != nil {
		return r.broken(ctx, f, numbers, 0, err)
	}
	if size := r.size(number); at > size {
		err := fmt.Errorf("%w: it is shorter than %d", errFrame, at)
		return r.broken(ctx, f, numbers, size, err)
	}
	return r.frames(ctx, f, numbers, at)
}

func (r *replay) size(number uint32) int64 { return r.j.files[number].size.Load() }

// frames replays the frames of a file from a place on.
func (r *replay) frames(ctx context.Context, f *os.File, numbers []uint32, at int64) (
	stop bool, err error,
) {
	size := r.size(numbers[0])
	for at < size {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		h, entries, err := r.frame(f, position{numbers[0], uint32(at)}, size)
		if errors.Is(err, errFrameData) {
			synced, _, lookErr := r.behind(f, numbers, at)
			if lookErr != nil {
				return false, lookErr
			}
			if r.next <= max(r.known, synced) { // those who read its batches will see it
				r.bad.addf("journal file %d: %v", numbers[0], err)
				err = nil
			}
		}
		if err != nil {
			return r.broken(ctx, f, numbers, at, err)
		}
		at += h.bytes()
		if err := r.take(h, entries, position{numbers[0], uint32(at)}); err != nil {
			return false, err
		}
	}
	if r.end.File < numbers[0] {
		r.end = position{numbers[0], uint32(at)}
	}
	return false, nil
}

// take takes in a frame that reads well.
func (r *replay) take(h *frameHead, entries []frameEntry, end position) error {
	if h.commit > r.next && r.next > 1 {
		r.bad.addf("commits %d to %d are missing from the journal", r.next, h.commit-1)
	}
	for _, e := range entries {
		r.c.add(e.key, indexValue(e.value, e.kind, e.place, e.delta))
	}
	r.next, r.end = h.commit+1, end
	if h.commit > r.counted {
		r.j.files[end.File].values.Add(int64(h.dataBytes))
	}
	if len(r.c.list) >= replayApplyMax {
		return r.apply()
	}
	return nil
}

func (r *replay) apply() error {
	if len(r.c.list) == 0 {
		return nil
	}
	err := r.x.apply(&r.c, mark{Commit: r.next - 1, position: r.end})
	r.c.reset()
	return err
}

// frame reads the frame at a place: its head and table, and its data too if it
// was written after the last commit that is known. Data that fails its checksum
// is errFrameData, and the rest is returned with it.
func (r *replay) frame(f *os.File, at position, size int64) (*frameHead, []frameEntry, error) {
	if int64(at.At)+frameHeadBytes > size {
		return nil, nil, errFrame
	}
	head := make([]byte, frameHeadBytes)
	if _, err := f.ReadAt(head, int64(at.At)); err != nil {
		return nil, nil, err
	}
	h, err := parseFrameHead(head)
	if err != nil {
		return nil, nil, err
	}
	if int64(at.At)+h.bytes() > size {
		return nil, nil, fmt.Errorf("%w: commit %d is cut short", errFrame, h.commit)
	}
	if h.commit < r.next {
		return nil, nil, fmt.Errorf("%w: commit %d follows %d", errFrame, h.commit, r.next-1)
	}
	n := frameHeadBytes + int64(h.tableBytes)
	if h.commit > r.known {
		n = h.bytes()
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(at.At)); err != nil {
		return nil, nil, err
	}
	entries, err := parseFrameTable(&h, b, at, r.seal)
	if err != nil || h.commit <= r.known {
		return &h, entries, err
	}
	if crc32.Checksum(b[frameHeadBytes+int(h.tableBytes):], castagnoli) != h.dataCRC {
		err = fmt.Errorf("%w: commit %d", errFrameData, h.commit)
	}
	return &h, entries, err
}

// broken judges a place that does not read as a frame. If it was once on disk, it
// is damage, and what follows is replayed; else the journal ends there.
func (r *replay) broken(
	ctx context.Context, f *os.File, numbers []uint32, at int64, why error,
) (stop bool, err error) {
	synced, resume, err := r.behind(f, numbers, at)
	if err != nil {
		return false, err
	}
	if r.next > max(r.known, synced) {
		r.end = position{numbers[0], uint32(at)}
		return true, nil
	}
	r.bad.addf("journal file %d is damaged at %d: %v", numbers[0], at, why)
	if resume >= 0 {
		return r.frames(ctx, f, numbers, resume)
	}
	// What is broken stays as it is; the journal goes on in another file.
	r.end = position{numbers[len(numbers)-1] + 1, 0}
	return false, nil
}

// behind looks for frames past a place of the first of some files. It returns
// the last commit that one of them says was synced, and where in the first file
// the first of them begins whose commit is still to come, or -1.
func (r *replay) behind(f *os.File, numbers []uint32, at int64) (
	synced uint64, resume int64, err error,
) {
	synced, resume, err = r.search(f, numbers[0], at+1)
	for _, number := range numbers[1:] {
		if err != nil {
			break
		}
		var other *os.File
		if other, err = os.Open(r.j.path(number)); err != nil {
			break
		}
		var s uint64
		s, _, err = r.search(other, number, 0)
		err = errors.Join(err, other.Close())
		synced = max(synced, s)
	}
	return synced, resume, err
}

// search is behind for one file.
func (r *replay) search(f *os.File, number uint32, at int64) (
	synced uint64, first int64, err error,
) {
	first = -1
	size := r.size(number)
	if at >= size {
		return 0, first, nil
	}
	_, seal, err := readHead(f, number, r.j.dirID)
	if err != nil {
		return 0, first, err
	}
	b := make([]byte, size-at)
	if _, err := f.ReadAt(b, at); err != nil {
		return 0, first, err
	}
	magic := binary.BigEndian.AppendUint32(nil, frameMagic)
	for from := 0; ; from++ {
		i := bytes.Index(b[from:], magic)
		if i < 0 {
			return synced, first, nil
		}
		from += i
		h, err := parseFrameHead(b[from:])
		if err == nil {
			_, err = parseFrameTable(&h, b[from:], position{}, seal)
		}
		if err != nil || h.commit < r.next {
			continue
		}
		synced = max(synced, h.synced)
		if first < 0 {
			first = at + int64(from)
		}
	}
}
