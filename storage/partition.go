package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// Partition is the log of one partition. It is made by Store.Create and found
// by Store.Partition. All methods may be called concurrently.
type Partition struct {
	store *Store
	id    PartitionID

	state   atomic.Pointer[logState] // what is durable
	config  atomic.Pointer[PartitionConfig]
	created atomic.Bool // its first state is durable
	gone    atomic.Bool // deleted
	corrupt atomic.Pointer[fault.Error]

	// configured is set by the first Configure after Open: before it the
	// topic's settings are not known, and retention keeps its hands off.
	configured atomic.Bool

	cuts atomic.Int64 // truncations and resets, counted while sweeper.busy is held

	stable atomic.Int64 // compaction stays below; math.MaxInt64 until it is set

	producers *producers    // the writer's, once loaded is set
	loaded    atomic.Bool   // producers stand as the log has them
	loading   chan struct{} // has a token for the goroutine that loads them

	observer        atomic.Pointer[func()] // called after each publish; see Observe
	writtenObserver atomic.Pointer[func()] // called after each write; see ObserveWritten

	mu             sync.Mutex
	changed        chan struct{} // guarded by mu; nil while nobody waits
	writtenChanged chan struct{} // likewise
	tail           []tailBatch   // guarded by mu; the newest batches, also those not on disk yet

	recent    []recent // guarded by mu; in the journal, not in the index yet
	published uint64   // guarded by mu; number of the commit that state is of

	written atomic.Int64 // end of what has its offset

	w writerState
}

// writerState is what only the writer may touch.
type writerState struct {
	state   *logState // ahead of Partition.state by what is not durable yet
	group   *group    // the group in which state may still be changed
	deleted bool
	unsaved int64 // bytes of idempotent batches since the last snapshot

	earlySince *group // with which state.early became durable, if it is not yet
}

func newPartition(s *Store, id PartitionID, state *logState) *Partition {
	p := &Partition{
		store: s, id: id, producers: s.newProducers(), loading: make(chan struct{}, 1),
	}
	cfg := DefaultPartitionConfig()
	p.config.Store(&cfg)
	p.stable.Store(math.MaxInt64)
	p.state.Store(state)
	p.w.state = state
	p.written.Store(int64(state.end))
	p.loaded.Store(state.end == 0)
	return p
}

// ID returns the partition's id.
func (p *Partition) ID() PartitionID { return p.id }

// Configure replaces the topic's settings, which hold from the next append and
// the next retention pass on. They are not kept over a restart: until the first
// Configure after Open, retention removes nothing. Settings out of their range
// are ignored where Validate would refuse them.
func (p *Partition) Configure(cfg PartitionConfig) {
	if cfg.Validate() == nil {
		p.config.Store(&cfg)
		p.configured.Store(true)
	}
}

// Config returns the settings that hold now.
func (p *Partition) Config() PartitionConfig { return *p.config.Load() }

// Start returns the log start offset, the first that can be read.
func (p *Partition) Start() Offset { return p.state.Load().start }

// End returns the end of what is durable: the offset after the last record
// that was answered. On a single node it is the high watermark.
func (p *Partition) End() Offset { return p.state.Load().end }

// Bytes returns the size of the partition's batches, as retention.bytes counts
// it. After a trim inside a segment it sinks as the space is given back.
func (p *Partition) Bytes() int64 { return p.state.Load().bytes() }

// LeaderEpoch returns the epoch of the newest batch that begins an epoch, or -1
// in a log that never had one.
func (p *Partition) LeaderEpoch() LeaderEpoch { return p.state.Load().epoch() }

// EndOffsetForEpoch returns the largest leader epoch in the log that is not
// above the one asked for, and the offset at which it ends: where the next
// epoch begins, or the end of the log (KIP-279). If the log has none that
// small, it returns the epoch asked for and the start of the log's first.
func (p *Partition) EndOffsetForEpoch(epoch LeaderEpoch) (LeaderEpoch, Offset) {
	state := p.state.Load()
	found, end := epoch, state.end
	for i := len(state.epochs) - 1; i >= 0; i-- {
		if e := state.epochs[i]; e.epoch <= epoch {
			return e.epoch, end
		}
		end = state.epochs[i].start
	}
	return found, end
}

// Corrupt returns the first damage that a read or the scrubber has found in the
// partition since Open or Reset, as KAFKA_STORAGE_CORRUPT, or nil. Other offsets
// go on being served; a replica should stop, be emptied and filled again (rule
// S6). Changed's channel is closed when damage is found.
func (p *Partition) Corrupt() error {
	if e := p.corrupt.Load(); e != nil {
		return e
	}
	return nil
}

// Condemn keeps in mind on disk that damage was found: Corrupt says so after a
// restart too, until Reset. A replica must not forget that others have been told.
func (p *Partition) Condemn(ctx context.Context) error {
	if err := p.usable(); err != nil {
		return err
	}
	if p.state.Load().condemned {
		return nil
	}
	return p.store.do(ctx, &op{kind: opCondemn, p: p})
}

// Changed returns a channel that is closed at the next move of End or Start,
// when damage is found, the partition is deleted, or the store ends. To wait without
// missing one: take the channel, look, then wait.
func (p *Partition) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// wake closes the channels that waiters have.
func (p *Partition) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeChanged()
	p.wakeWritten()
}

// wakeChanged wakes who waits for what is durable; p.mu is held.
func (p *Partition) wakeChanged() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Observe makes the store call fn after every advance of End and every move of
// Start, on the goroutines that all appends of the node go through and before
// they are answered: fn must not block. Under flush.policy interval and never two
// of them may call it at once. There is one observer; nil ends it.
func (p *Partition) Observe(fn func()) {
	if fn == nil {
		p.observer.Store(nil)
		return
	}
	p.observer.Store(&fn)
}

// ObserveWritten is Observe for every advance of WrittenEnd. What fn sees may not be
// on disk yet.
func (p *Partition) ObserveWritten(fn func()) {
	if fn == nil {
		p.writtenObserver.Store(nil)
		return
	}
	p.writtenObserver.Store(&fn)
}

// publish makes the state of a commit visible, unless a later one is.
func (p *Partition) publish(state *logState, commit uint64) {
	p.mu.Lock()
	if commit <= p.published {
		p.mu.Unlock()
		return
	}
	p.published = commit
	was := p.state.Swap(state)
	p.mu.Unlock()
	if fn := p.observer.Load(); fn != nil {
		(*fn)()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeChanged()
	if was.start != state.start {
		p.wakeWritten()
	}
}

// Err returns why the partition takes no requests any more, or nil: it was
// deleted, or the store has failed.
func (p *Partition) Err() error { return p.usable() }

// usable returns why the partition takes no requests, or nil.
func (p *Partition) usable() error {
	if p.gone.Load() {
		return unknown(p.id)
	}
	return p.store.Err()
}

// damaged notes that stored data is broken and returns the error for callers.
func (p *Partition) damaged(err error) error {
	return p.damagedAt(-1, err)
}

func (p *Partition) damagedAt(at Offset, err error) error {
	e := fault.CorruptLog.With("partition_id", p.id, "offset", at).Because("%v", err)
	if p.corrupt.CompareAndSwap(nil, e) {
		p.store.log.Error("stored records are damaged", "partition", p.id.String(),
			"offset", int64(at), "error", err)
		p.wake()
	}
	return e
}

// judged makes damage that background work met at an offset known.
func (p *Partition) judged(at Offset, err error) error {
	if errors.Is(err, errDamage) {
		return p.damagedAt(at, err)
	}
	return err
}

// SetStable says below which offset records are committed and all transactions
// are ended: the least of the high watermark and the last stable offset.
// Compaction and retention stay below it (rule S7). Until the first call it is the end of
// what is durable; open transactions are respected in any case.
func (p *Partition) SetStable(end Offset) { p.stable.Store(int64(end)) }

// checkProducer judges a batch by the producers' state, which the caller has
// loaded.
func (p *Partition) checkProducer(h *batch.Header, now int64) (*producedBatch, error) {
	if h.ProducerID < 0 {
		return nil, nil
	}
	return p.producers.check(h, now)
}

// loadProducers rebuilds the state of the producers: the last snapshot, and
// the log after it. It returns at once if that was done before. Nothing that
// has a producer id is appended meanwhile, as every such append comes by here.
func (p *Partition) loadProducers(ctx context.Context) error {
	if p.loaded.Load() {
		return nil
	}
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return fmt.Errorf("loading the producers of %s: %w", p.id, ctx.Err())
	}
	if p.loaded.Load() {
		return nil
	}
	if !p.store.readers.enter() {
		return ErrClosed
	}
	defer p.store.readers.leave()
	if err := p.store.caughtUp(ctx); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		table, err := p.rebuildProducers()
		if err == nil {
			p.producers = table
			p.loaded.Store(true)
			return nil
		}
		if gone := p.usable(); gone != nil {
			return gone
		}
		if attempt > 1 || !errors.Is(err, errDamage) {
			return p.damaged(err)
		}
		// What was found may have been moved before it was read, and the file removed.
	}
}

// rebuildProducers makes the state of the producers of what is on disk.
func (p *Partition) rebuildProducers() (*producers, error) {
	table := p.store.newProducers()
	err := guarded(func() error {
		snapshot, err := p.store.lookup(partitionKey(keyProducers, p.id))
		if err == nil && snapshot != nil {
			err = table.decode(snapshot)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("producer snapshot: %w", err)
	}
	state, now := p.state.Load(), p.store.now()
	if from := max(state.producersFrom, state.start); state.producersFrom >= 0 {
		err = guarded(func() error {
			return p.walk(from, state.end, false, func(b *stored) (bool, error) {
				table.apply(&b.header, Offset(b.header.BaseOffset), now)
				return true, nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("rebuilding producers: %w", err)
		}
	}
	return table, nil
}
