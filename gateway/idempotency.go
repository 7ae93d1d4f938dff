package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// headerKey names a request, so that sending it again writes nothing twice
	// (IETF draft-ietf-httpapi-idempotency-key-header-07).
	headerKey = "Idempotency-Key"
	// headerReplayed says that an answer is of records written earlier.
	headerReplayed = "Idempotency-Replayed"
	keyBytesMax    = 255
	// keyPeriod and keyCountMax bound how long a gateway remembers what a key was
	// used for: at least for one period or that many keys, at most twice.
	keyPeriod   = time.Hour
	keyCountMax = 16_384
)

// statusCancelled is the status of a caller who did not wait.
const statusCancelled = 499

type digest [sha256.Size]byte

// keys is what a gateway knows of idempotency keys: which are in use, and what
// the latest were used for. That a repetition writes nothing is not its doing:
// the broker's logs see to that, on any node and after a restart. It only finds
// a key that is used for another request where the logs cannot, and tells a
// caller who is too quick to wait.
type keys struct {
	mu       sync.Mutex
	busy     map[digest]bool // bounded by the requests in progress
	now, old map[digest]digest
	since    time.Time // of now
}

// enter takes a key for a request, which leave gives back. Leave is told what
// came of it: keep remembers the request.
func (k *keys) enter(key, request digest, at time.Time) (leave func(keep bool), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy[key] {
		return nil, fault.IdempotencyKeyInUse
	}
	earlier, known := k.now[key]
	if !known {
		earlier, known = k.old[key]
	}
	if known && earlier != request {
		return nil, fault.IdempotencyKeyReused
	}
	if k.busy == nil {
		k.busy = map[digest]bool{}
	}
	k.busy[key] = true
	return func(keep bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.busy, key)
		if !keep {
			return
		}
		if k.now == nil || len(k.now) >= keyCountMax || at.Sub(k.since) > keyPeriod {
			k.old, k.now, k.since = k.now, map[digest]digest{}, at
		}
		k.now[key] = request
	}, nil
}

// keyOf reads the Idempotency-Key of a request: "" where there is none. It is a
// string of structured fields (RFC 9651, section 3.3.3); one without quotes is
// taken too, as most servers do.
func keyOf(header http.Header) (string, error) {
	values := header.Values(headerKey)
	if len(values) == 0 {
		return "", nil
	}
	bad := func(text string) (string, error) {
		return "", fault.InvalidRequest.With().At(headerKey, text)
	}
	if len(values) > 1 {
		return bad("given more than once")
	}
	key := strings.TrimSpace(values[0])
	if inner, ok := strings.CutPrefix(key, `"`); ok {
		if inner, ok = strings.CutSuffix(inner, `"`); !ok || strings.ContainsAny(inner, `"\`) {
			return bad(`a quote or backslash within; it is such as "8e03978e-40d5-43dd"`)
		}
		key = inner
	}
	switch {
	case key == "":
		return bad("is empty")
	case len(key) > keyBytesMax:
		return bad("is longer than 255 bytes")
	case !printable(key):
		return bad("has other characters than those of ASCII that can be printed")
	}
	return key, nil
}

// partOfKey returns the key of one of several writes that come of one request: ""
// where the request has none.
func partOfKey(key, part string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key + "\x00" + part))
	return "part-" + hex.EncodeToString(sum[:])
}

// produceOnce sends a request to the broker, under the caller's Idempotency-Key
// if it has one. Text is what the request was read from.
func (g *Gateway) produceOnce(
	w *response, r *http.Request, request *sluicev1.ProduceRequest, text []byte,
) (answer *sluicev1.ProduceResponse, err error) {
	key, err := keyOf(r.Header)
	if err != nil {
		return nil, err
	}
	switch said := request.GetIdempotencyKey(); {
	case key == "" && said == "":
		answer, err = g.streams.Produce(outgoing(r), request)
		return answer, noteReplay(w, answer, err)
	case key == "":
		key = said
	case said != "" && said != key:
		return nil, fault.InvalidRequest.With().At("idempotency_key",
			"the header Idempotency-Key says something else")
	}
	scoped := sha256.Sum256([]byte(request.GetTopic() + "\x00" + key))
	leave, err := g.keys.enter(scoped, digestOf(r, text), time.Now())
	if err != nil {
		return nil, err
	}
	defer func() {
		// After a failure of the node's, or without an answer, it may be written.
		leave(err == nil || fault.From(err).HTTP >= statusCancelled)
	}()
	request.IdempotencyKey = key
	answer, err = g.streams.Produce(outgoing(r), request)
	return answer, noteReplay(w, answer, err)
}

// noteReplay says in the header that all of an answer is of records written earlier.
// It returns err.
func noteReplay(w *response, answer *sluicev1.ProduceResponse, err error) error {
	if err == nil && isReplay(answer) {
		w.Header().Set(headerReplayed, "true")
	}
	return err
}

func isReplay(answer *sluicev1.ProduceResponse) bool {
	for _, result := range answer.GetResults() {
		if !result.GetDuplicate() {
			return false
		}
	}
	return len(answer.GetResults()) > 0
}

// digestOf returns what tells a request from others: where it went and its body.
func digestOf(r *http.Request, text []byte) digest {
	sum := sha256.New()
	sum.Write([]byte(r.URL.EscapedPath() + "\x00" + r.Header.Get("Content-Type") + "\x00"))
	sum.Write(text)
	return digest(sum.Sum(nil))
}
