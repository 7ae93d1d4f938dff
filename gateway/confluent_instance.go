package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"
)

// instanceKey names an instance: names are unique in a group.
type instanceKey struct{ group, name string }

// instances holds the consumer instances that live on this gateway.
type instances struct {
	g     *Gateway
	mu    sync.Mutex
	byKey map[instanceKey]*instance
}

// instance is a consumer that an HTTP caller has made. It is a member of its
// group for as long as it lives and is subscribed, whether it is read or not;
// it lives until it is deleted, or nobody has called it for the idle timeout.
//
// Nothing is read ahead: a read asks the broker for what its caller takes. So an
// idle instance holds no records, and what one holds is bounded by max_bytes.
type instance struct {
	g      *Gateway
	key    instanceKey
	secret [sha256.Size]byte // of the credentials that made it
	format *embedded
	config consumer.Config

	// ctx carries the creator's credentials, and ends with the instance.
	ctx    context.Context
	cancel context.CancelFunc
	// reading is held by a read, one at a time.
	reading chan struct{}
	// turn is held by what changes the subscription.
	turn chan struct{}

	mu      sync.Mutex
	core    *consumer.Instance
	changed chan struct{} // closed and replaced when what may be read changes
	member  *membership   // nil unless subscribed
	idle    *time.Timer
	calls   int // in progress
	closed  bool
}

// errNoInstance is the error of an id that is none, or somebody else's.
var errNoInstance = &shaped{
	http.StatusNotFound, 40403, "Consumer instance not found.", fault.ResourceNotFound.With().
		At("instance", "was never there, was deleted, has expired, or its node is gone: "+
			"create it with POST /consumers/{group}, and subscribe again"),
}

// errInstanceExists is the error of a name that is taken.
var errInstanceExists = &shaped{
	http.StatusConflict, 40902,
	"Consumer with specified consumer ID already exists in the specified consumer group.",
	fault.IllegalState.With(),
}

// illegalState is the error of an operation that the instance's state excludes.
func illegalState(err error) error {
	return &shaped{
		http.StatusConflict, 40903, "Illegal state: " + err.Error(), fault.IllegalState.With(),
	}
}

// randomName returns what nobody can guess.
func randomName() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).
		EncodeToString(random[:]))
}

// secretOf returns what tells the credentials of one caller from another's.
func secretOf(r *http.Request) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.Join(r.Header.Values("Authorization"), "\n")))
}

// create makes an instance on this gateway. An empty name makes one of its own.
func (s *instances) create(
	r *http.Request, group, name string, format *embedded, config consumer.Config,
) (*instance, error) {
	if name == "" {
		name = "rest-consumer-" + s.g.peers.self + "-" + randomName()
	}
	pairs, _ := metadata.FromOutgoingContext(outgoing(r))
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(),
		pairs.Copy()))
	i := &instance{
		g: s.g, key: instanceKey{group, name}, secret: secretOf(r), format: format,
		config: config, ctx: ctx, cancel: cancel, reading: make(chan struct{}, 1),
		turn: make(chan struct{}, 1), core: consumer.New(), changed: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.g.stopped.Load():
		cancel()
		return nil, errStopping
	case s.byKey[i.key] != nil:
		cancel()
		return nil, errInstanceExists
	case len(s.byKey) >= s.g.limits.ConsumerCountMax:
		cancel()
		return nil, fault.ThrottlingQuotaExceeded.With("limit", s.g.limits.ConsumerCountMax,
			"setting", consumersSetting)
	}
	s.byKey[i.key] = i
	i.idle = time.AfterFunc(s.g.limits.ConsumerIdleTimeout, i.expire)
	return i, nil
}

// enter returns the instance of a call, which lives at least until leave.
func (s *instances) enter(r *http.Request, key instanceKey) (i *instance, leave func(), err error) {
	s.mu.Lock()
	i = s.byKey[key]
	s.mu.Unlock()
	if i == nil {
		return nil, nil, errNoInstance
	}
	secret := secretOf(r)
	if subtle.ConstantTimeCompare(secret[:], i.secret[:]) != 1 {
		return nil, nil, errNoInstance
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, nil, errNoInstance
	}
	i.calls++
	i.idle.Stop()
	return i, i.leave, nil
}

// leave ends a call: the instance is idle from now on.
func (i *instance) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.calls--; i.calls == 0 && !i.closed {
		i.idle.Reset(i.g.limits.ConsumerIdleTimeout)
	}
}

// expire ends an instance that nobody has called for long. What its reader got
// last may never have been worked on: it is not committed.
func (i *instance) expire() { i.close(true) }

// close ends an instance: its reads, and its membership. It returns once the
// group knows, or cannot be told. One that is called while it expires lives on.
func (i *instance) close(expired bool) {
	i.mu.Lock()
	if i.closed || expired && i.calls > 0 {
		i.mu.Unlock()
		return
	}
	i.closed = true
	i.idle.Stop()
	member := i.member
	i.member = nil
	i.mu.Unlock()
	s := i.g.consumers
	s.mu.Lock()
	delete(s.byKey, i.key)
	s.mu.Unlock()
	if !expired && i.config.AutoCommit {
		ctx, cancel := context.WithTimeout(i.ctx, leaveTimeout)
		_ = i.commitReturned(ctx, member) // those who read on from the last commit get it again
		cancel()
	}
	if member != nil {
		member.leave()
	}
	i.cancel()
}

// end closes all instances. No other is made from then on.
func (s *instances) end() {
	s.mu.Lock()
	var all []*instance
	for _, i := range s.byKey {
		all = append(all, i)
	}
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, i := range all {
		closing.Go(func() { i.close(false) })
	}
	closing.Wait()
}

// update changes the state of an instance, and wakes its reader.
func (i *instance) update(change func(core *consumer.Instance) error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	err := change(i.core)
	close(i.changed)
	i.changed = make(chan struct{})
	return err
}

// call returns a context for a call to the broker on behalf of a request: it
// ends with the request or the instance.
func (i *instance) call(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(outgoing(r))
	stop := context.AfterFunc(i.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
