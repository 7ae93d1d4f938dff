package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/storage"
)

// What a child process is told in its environment.
const (
	envDir    = "SLUICE_CRASH_DIR"    // the store's directory
	envWriter = "SLUICE_CRASH_WRITER" // number of the first writer
	envFloor  = "SLUICE_CRASH_FLOOR"  // free-space floor in bytes
	envLinger = "SLUICE_CRASH_LINGER" // set: stop appending, and wait to be killed
	envAppend = "SLUICE_CRASH_APPEND" // "no": only show what is there
)

// The partitions, by what is done to them.
const (
	kept      = 0 // nothing
	retained  = 1 // retention by size
	trimmed   = 2 // trims to 30 records before the end
	compacted = 3 // compaction
	partCount = 4

	retentionBytes = 1 << 20
	keyCount       = 40
	writerCount    = 4
)

// topic is the one topic of the suite.
var topic = storage.TopicID{15: 7}

// child is the process that appends: it opens the store, prints what is in it,
// and then appends until it is killed or its input says "stop". Its output is
// lines that ledger.go reads; each is one write, so a kill tears none.
//
//	X text                         the store did not open
//	V verdict ms bytes             it did, in that time, with that much on disk
//	P part start end bytes         a partition
//	R part base last writer seq    a batch that is whole, and what is in it
//	E part offset text             a read that failed
//	D                              that was all
//	I part writer seq              an append is about to be made
//	A part writer seq base last    it was acknowledged
//	T start                        the partition of trims is about to be trimmed
//	N ms                           the slowest append since the last N
//	F text                         an append failed, or the store
//	C                              closed well, or lingers
type child struct {
	out   io.Writer
	mu    sync.Mutex
	store *storage.Store
}

func (c *child) say(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ") + "\n"
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.out, line) // without a reader the process is about to be killed
}

// childConfig is a store in which everything happens often.
func childConfig(dir string) storage.Config {
	cfg := storage.DefaultConfig()
	cfg.Dir = dir
	cfg.MemTableBytes = 1 << 20
	cfg.JournalFileBytes = 2 << 20
	cfg.ReplayMaxBytes = 4 << 20
	cfg.RetentionInterval = 100 * time.Millisecond
	cfg.CheckpointInterval = 20 * time.Millisecond
	cfg.ReclaimMinBytes = 1 << 20
	cfg.ProducerSnapshotBytes = 64 << 10
	cfg.TailBytes = 64 << 10
	cfg.FreeSpaceFloorBytes, cfg.BallastBytes, cfg.ScrubInterval = 0, 0, 0
	cleanOften(&cfg)
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return cfg
}

// childMain is what a child process runs.
func childMain() int {
	c := &child{out: os.Stdout}
	cfg := childConfig(os.Getenv(envDir))
	if floor := os.Getenv(envFloor); floor != "" {
		cfg.FreeSpaceFloorBytes, _ = strconv.ParseInt(floor, 10, 64)
		tuneForFullDisk(&cfg)
	}
	began := time.Now()
	s, err := storage.Open(context.Background(), cfg)
	if err != nil {
		c.say("X %v", err)
		return 3
	}
	c.store = s
	c.say("V %s %d %d", s.Verdict(), time.Since(began).Milliseconds(), dirBytes(cfg.Dir))
	c.dump()
	c.say("D")
	stop := make(chan struct{})
	go func() {
		in := bufio.NewScanner(os.Stdin)
		in.Scan()
		close(stop)
	}()
	if err := s.Settle(); err != nil {
		c.say("F %v", err)
		return 4
	}
	if os.Getenv(envAppend) != "no" {
		c.load(stop)
	} else {
		<-stop
	}
	if os.Getenv(envLinger) != "" {
		<-time.After(10 * cfg.CheckpointInterval) // so that the evidence names everything
		c.say("C")
		select {} // until it is killed
	}
	if err := s.Close(); err != nil {
		c.say("F %v", err)
		return 4
	}
	c.say("C")
	return 0
}

// dirBytes returns what a directory takes on disk by the lengths of its files.
func dirBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// dump prints what can be read.
func (c *child) dump() {
	for n := range int32(partCount) {
		p, ok := c.store.Partition(storage.PartitionID{Topic: topic, Partition: n})
		if !ok {
			continue
		}
		c.say("P %d %d %d %d", n, p.Start(), p.End(), p.Bytes())
		c.dumpPartition(n, p)
	}
	// A scrub tells what a read cannot: damage where compaction left gaps.
	if _, err := c.store.Scrub(context.Background()); err != nil {
		c.say("E 0 -1 %v", err)
	}
	for n := range int32(partCount) {
		id := storage.PartitionID{Topic: topic, Partition: n}
		if p, ok := c.store.Partition(id); ok && p.Corrupt() != nil {
			c.say("E %d -1 %v", n, p.Corrupt())
		}
	}
}

// dumpPartition prints the batches of a partition, those behind damage too.
func (c *child) dumpPartition(n int32, p *storage.Partition) {
	seen := storage.Offset(-1)
	for at := p.Start(); at < p.End(); {
		request := storage.ReadRequest{From: at, MaxBytes: 256 << 10}
		chunk, err := p.Read(context.Background(), request)
		if err != nil {
			c.say("E %d %d %v", n, at, err)
			at++
			continue
		}
		for _, b := range chunk.Batches {
			writer, seq, h, err := readPayload(b)
			if errors.Is(err, errEmpty) && n == compacted {
				continue // all of it has later records with the same keys
			}
			if err != nil {
				c.say("E %d %d invented: %v", n, at, err)
				continue
			}
			if last := storage.Offset(h.LastOffset()); last > seen {
				c.say("R %d %d %d %d %d", n, h.BaseOffset, last, writer, seq)
				seen = last
			}
		}
		if chunk.NextOffset <= at {
			c.say("E %d %d read on at %d", n, at, chunk.NextOffset)
			return
		}
		at = chunk.NextOffset
	}
}

// partitionConfigs are the settings of the partitions.
func partitionConfigs() [partCount]storage.PartitionConfig {
	var all [partCount]storage.PartitionConfig
	for n := range all {
		all[n] = storage.DefaultPartitionConfig()
		all[n].SegmentBytes, all[n].RetentionMs = 128<<10, -1
	}
	all[retained].RetentionBytes = retentionBytes
	compactOften(&all[compacted])
	return all
}

// load appends from a few goroutines until it is told to stop.
func (c *child) load(stop <-chan struct{}) {
	var parts [partCount]*storage.Partition
	for n, cfg := range partitionConfigs() {
		id := storage.PartitionID{Topic: topic, Partition: int32(n)}
		p, err := c.store.Create(context.Background(), id, cfg)
		if err != nil {
			c.say("F %v", err)
			return
		}
		parts[n] = p
	}
	first, _ := strconv.Atoi(os.Getenv(envWriter))
	var wg sync.WaitGroup
	for w := range writerCount {
		wg.Go(func() { c.write(stop, parts[:], first+w) })
	}
	wg.Go(func() { c.trim(stop, parts[trimmed]) })
	wg.Wait()
}

// write appends batches of all sizes as one writer.
func (c *child) write(stop <-chan struct{}, parts []*storage.Partition, writer int) {
	random := rand.New(rand.NewPCG(uint64(writer), uint64(time.Now().UnixNano())))
	slowest := time.Duration(0)
	for seq := 0; ; seq++ {
		select {
		case <-stop:
			return
		default:
		}
		n := random.IntN(len(parts))
		b := payload(writer, seq, sizeOf(random), n == compacted)
		c.say("I %d %d %d", n, writer, seq)
		began := time.Now()
		a, err := parts[n].Append(context.Background(), storage.AppendRequest{Batch: b})
		if err != nil {
			c.say("F %v", err)
			if c.store.Err() == nil { // a full disk; try again until told to stop
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				continue
			}
			return
		}
		c.say("A %d %d %d %d %d", n, writer, seq, a.BaseOffset, a.LastOffset)
		if took := time.Since(began); took > slowest {
			slowest = took
			c.say("N %d", took.Milliseconds())
		}
	}
}

func sizeOf(random *rand.Rand) int {
	switch kind := random.IntN(20); {
	case kind < 10:
		return 20 + random.IntN(900) // in the LSM tree
	case kind < 19:
		return 1000 + random.IntN(30_000)
	default:
		return 100_000
	}
}

// trim moves the start of a partition after its end.
func (c *child) trim(stop <-chan struct{}, p *storage.Partition) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		before := max(0, p.End()-30)
		c.say("T %d", before)
		if _, err := p.Trim(context.Background(), before); err != nil {
			c.say("F %v", err)
			return
		}
	}
}

// payload returns the batch that a writer appends as its seq'th: one to three
// records, each with the writer, the number and a filling that follows from
// them.
func payload(writer, seq, size int, keyed bool) []byte {
	records := make([]batch.Record, 1+seq%3)
	for i := range records {
		value := fmt.Appendf(nil, "%d %d %d %d ", writer, seq, i, len(records))
		value = append(value, filling(writer, seq, i, max(1, size/len(records)))...)
		records[i] = batch.Record{Timestamp: 1e12, Value: value}
		if keyed {
			records[i].Key = keyOf(writer, seq, i)
		}
	}
	b, err := batch.Encode(nil, records, batch.EncodeOptions{
		LeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
	})
	if err != nil {
		panic(err) // the records are our own
	}
	return b
}

// keyOf returns the key of a record in the compacted partition.
func keyOf(writer, seq, i int) []byte {
	return fmt.Appendf(nil, "k%d", (writer*31+seq*7+i)%keyCount)
}

func filling(writer, seq, i, size int) []byte {
	random := rand.NewChaCha8([32]byte{
		byte(writer), byte(writer >> 8), byte(seq),
		byte(seq >> 8), byte(seq >> 16), byte(i),
	})
	b := make([]byte, size)
	_, _ = random.Read(b) // never fails
	return b
}

var errEmpty = errors.New("batch has no records")

// readPayload returns whose batch it is, or an error if nobody made it. Of a
// batch in the compacted partition some records may be gone.
func readPayload(b []byte) (writer, seq int, h batch.Header, err error) {
	h, err = batch.Verify(b)
	if err != nil {
		return 0, 0, h, err
	}
	writer = -1
	for r, err := range batch.Records(b, batch.Limits{}) {
		if err != nil {
			return 0, 0, h, err
		}
		var w, s, i, count int
		if _, err := fmt.Sscanf(string(r.Value), "%d %d %d %d ", &w, &s, &i, &count); err != nil {
			return 0, 0, h, fmt.Errorf("record %d is nobody's: %w", r.Offset, err)
		}
		if writer >= 0 && (w != writer || s != seq) {
			return 0, 0, h, fmt.Errorf("record %d is of another batch", r.Offset)
		}
		writer, seq = w, s
		head := fmt.Sprintf("%d %d %d %d ", w, s, i, count)
		if string(r.Value[len(head):]) != string(filling(w, s, i, len(r.Value)-len(head))) ||
			r.Offset != h.BaseOffset+int64(i) || r.Key != nil && string(r.Key) !=
			string(keyOf(w, s, i)) {
			return 0, 0, h, fmt.Errorf("record %d is not what writer %d wrote", r.Offset, w)
		}
	}
	if writer < 0 {
		return 0, 0, h, fmt.Errorf("%w: at %d", errEmpty, h.BaseOffset)
	}
	return writer, seq, h, nil
}
