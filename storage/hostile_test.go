package storage_test

import (
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// The places of a RecordBatch v2's header that the tests lie about.
const (
	atLength          = 8
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atCount           = 57
)

// openHostile opens a store with one partition.
func openHostile(t testing.TB) (*storage.Store, *storage.Partition) {
	t.Helper()
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.BallastBytes, cfg.ScrubInterval = t.TempDir(), 0, 0
	cfg.MemTableBytes, cfg.JournalFileBytes = 1<<20, 2<<20
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	id := storage.PartitionID{Topic: storage.TopicID{1}}
	p, err := s.Create(t.Context(), id, storage.DefaultPartitionConfig())
	require.NoError(t, err)
	return s, p
}

// goodBatch returns a batch of records as a producer encodes it.
func goodBatch(t testing.TB, records int) []byte {
	t.Helper()
	all := make([]batch.Record, records)
	for i := range all {
		all[i] = batch.Record{Timestamp: 1000 + int64(i), Value: []byte("value")}
	}
	b, err := batch.Encode(nil, all, batch.DefaultEncodeOptions())
	require.NoError(t, err)
	return b
}

// signed renews the checksum, as one who lies on purpose does.
func signed(b []byte) []byte {
	sum := crc32.Checksum(b[atAttributes:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[atCRC:], sum)
	return b
}

func TestABatchThatLiesAboutItselfIsRefused(t *testing.T) {
	_, p := openHostile(t)
	number := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[at:], v)
			return signed(b)
		}
	}
	lies := map[string]func([]byte) []byte{
		"more records than the delta says":  number(atCount, 4),
		"fewer records than the delta says": number(atCount, 2),
		"no records":                        number(atCount, 0),
		"a negative number of records":      number(atCount, math.MaxUint32),
		"as many records as there can be":   number(atCount, math.MaxInt32),
		"a larger delta":                    number(atLastOffsetDelta, 3),
		"a negative delta":                  number(atLastOffsetDelta, math.MaxUint32),
		"the largest delta":                 number(atLastOffsetDelta, math.MaxInt32),
		"a length that is longer":           number(atLength, 10_000),
		"a length that is shorter":          number(atLength, 60),
		"a negative length":                 number(atLength, math.MaxUint32),
		"the length of a header only":       number(atLength, 49),
		"another magic": func(b []byte) []byte {
			b[atMagic] = 1
			return signed(b)
		},
		"cut within a record": func(b []byte) []byte {
			b = b[:len(b)-2]
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-12))
			return b // the checksum is that of the whole
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			_, err := p.Append(t.Context(), storage.AppendRequest{Batch: lie(goodBatch(t, 3))})
			require.ErrorIs(t, err, fault.CorruptMessage)
			require.Zero(t, p.End())
		})
	}
	_, err := p.Append(t.Context(), storage.AppendRequest{Batch: make([]byte, 1<<20+1)})
	require.ErrorIs(t, err, fault.MessageTooLarge)
	at, err := p.Append(t.Context(), storage.AppendRequest{Batch: goodBatch(t, 3)})
	require.NoError(t, err)
	require.Zero(t, at.BaseOffset)
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	_, p := openHostile(t)
	good := goodBatch(t, 2)
	for bit := range len(good) * 8 {
		at := bit / 8
		if at < atLength || at >= 12 && at < atMagic {
			continue // offset and leader epoch are the log's to set
		}
		flipped := append([]byte(nil), good...)
		flipped[at] ^= 1 << (bit % 8)
		_, err := p.Append(t.Context(), storage.AppendRequest{Batch: flipped})
		require.ErrorIs(t, err, fault.CorruptMessage, "bit %d of byte %d", bit%8, at)
	}
	require.Zero(t, p.End())
}

// Callers who come while the store closes are answered, well or with ErrClosed, and
// what was answered well is there.
func TestAppendsThatMeetTheClose(t *testing.T) {
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.BallastBytes, cfg.ScrubInterval = t.TempDir(), 0, 0
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	id := storage.PartitionID{Topic: storage.TopicID{1}}
	p, err := s.Create(t.Context(), id, storage.DefaultPartitionConfig())
	require.NoError(t, err)
	var callers sync.WaitGroup
	var mu sync.Mutex
	last, begun := storage.Offset(-1), make(chan struct{}, 8)
	encoded := goodBatch(t, 1)
	for range 8 {
		callers.Go(func() {
			for n := 0; ; n++ {
				a, err := p.Append(t.Context(), storage.AppendRequest{Batch: encoded})
				if err != nil {
					require.ErrorIs(t, err, storage.ErrClosed)
					return
				}
				if n == 0 {
					begun <- struct{}{}
				}
				mu.Lock()
				last = max(last, a.LastOffset)
				mu.Unlock()
			}
		})
	}
	for range 8 {
		<-begun
	}
	require.NoError(t, s.Close())
	callers.Wait()
	_, err = p.Append(t.Context(), storage.AppendRequest{Batch: encoded})
	require.ErrorIs(t, err, storage.ErrClosed)
	s, err = storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer s.Close()
	p, ok := s.Partition(id)
	require.True(t, ok)
	require.Equal(t, last+1, p.End())
}

// FuzzAppend appends whatever it is given: what is refused changes nothing, and what
// is taken is read back.
func FuzzAppend(f *testing.F) {
	good := goodBatch(f, 3)
	f.Add(good)
	f.Add(good[:61])
	f.Add(append(append([]byte(nil), good...), good...))
	f.Add([]byte{})
	_, p := openHostile(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > atCount {
			signed(b) // past the checksum
		}
		end := p.End()
		a, err := p.Append(t.Context(), storage.AppendRequest{Batch: b})
		if err != nil {
			require.Equal(t, end, p.End())
			return
		}
		require.Equal(t, end, a.BaseOffset)
		require.Equal(t, a.LastOffset+1, p.End())
		chunk, err := p.Read(t.Context(), storage.ReadRequest{From: end, MaxBytes: 1})
		require.NoError(t, err)
		require.Len(t, chunk.Batches[0], len(b))
	})
}
