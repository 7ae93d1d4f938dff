package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// restClient writes and reads as curl would: each request by itself, with an
// Idempotency-Key that stays the same for all tries.
type restClient struct {
	c      *cluster
	ledger *ledger
	number int
	random *rand.Rand
	http   *http.Client
}

func newRestClient(c *cluster, l *ledger, number int, random *rand.Rand) *restClient {
	return &restClient{
		c: c, ledger: l, number: number, random: random,
		http: &http.Client{Timeout: 2 * callTime, Transport: &http.Transport{}},
	}
}

// errAgain says that a request is to be sent again.
var errAgain = errors.New("try again")

// do makes a request to any node and decodes its answer. Errors that are not
// errAgain are for good.
func (r *restClient) do(
	ctx context.Context, method, path, key string, body, answer any,
) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	node := r.c.nodes[r.random.IntN(len(r.c.nodes))]
	request, err := http.NewRequestWithContext(ctx, method, "http://"+node.http+path,
		bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	switch code := response.StatusCode; {
	case err != nil:
		return fmt.Errorf("%w: %w", errAgain, err)
	case code == http.StatusOK:
		return json.Unmarshal(raw, answer)
	case code == http.StatusConflict, code == http.StatusRequestTimeout,
		code == http.StatusTooManyRequests, code == http.StatusInsufficientStorage,
		code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout, code == 499:
		return fmt.Errorf("%w: %d: %s", errAgain, code, raw)
	default:
		return fmt.Errorf("%s %s: %d: %s", method, path, code, raw)
	}
}

// restRecord is a record in a request or an answer.
type restRecord struct {
	Partition int32       `json:"partition"`
	Offset    json.Number `json:"offset,omitempty"`
	Value     []byte      `json:"value,omitempty"`
}

// write writes single records until ctx ends, each until it is acknowledged.
func (r *restClient) write(ctx context.Context) {
	defer r.http.CloseIdleConnections()
	written := map[int32]int{}
	for ctx.Err() == nil {
		partition := r.random.Int32N(r.ledger.partitions)
		payload := fmt.Sprintf("%d|%d|%d", r.number, partition, written[partition])
		written[partition]++
		deadline := time.Now().Add(settleLimit)
		for {
			var answer struct {
				Results []restRecord `json:"results"`
			}
			err := r.do(context.WithoutCancel(ctx), http.MethodPost,
				"/v1/topics/"+r.ledger.topic+"/records", payload, map[string]any{
					"records": []restRecord{{Partition: partition, Value: []byte(payload)}},
				}, &answer)
			if err == nil && len(answer.Results) == 1 {
				r.acked(payload, partition, answer.Results[0].Offset)
				break
			}
			if !errors.Is(err, errAgain) || time.Now().After(deadline) {
				r.ledger.violation("an HTTP producer: %s: %v", payload, err)
				return
			}
			r.ledger.mu.Lock()
			r.ledger.retries++
			r.ledger.mu.Unlock()
			_ = sleep(context.WithoutCancel(ctx), retryPause)
		}
		_ = sleep(ctx, time.Duration(r.random.IntN(60))*time.Millisecond)
	}
}

func (r *restClient) acked(payload string, partition int32, at json.Number) {
	offset, err := at.Int64()
	if err != nil {
		offset = 0 // proto's JSON leaves zeroes out
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	r.ledger.acks = append(r.ledger.acks,
		ack{payload: payload, partition: partition, offset: offset, at: time.Now()})
}

// read follows a partition until ctx ends.
func (r *restClient) read(ctx context.Context, partition int32) {
	defer r.http.CloseIdleConnections()
	for next := int64(0); ctx.Err() == nil; {
		var page struct {
			Records []restRecord `json:"records"`
		}
		err := r.do(ctx, http.MethodGet, "/v1/topics/"+r.ledger.topic+"/partitions/"+
			strconv.Itoa(int(partition))+"/records?max_wait=0.5s&offset="+
			strconv.FormatInt(next, 10), "", nil, &page)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !errors.Is(err, errAgain):
			r.ledger.violation("an HTTP reader of partition %d at %d: %v", partition, next, err)
			fallthrough
		case err != nil:
			_ = sleep(ctx, retryPause)
			continue
		}
		for _, record := range page.Records {
			offset, err := record.Offset.Int64()
			if err != nil {
				offset = 0
			}
			r.ledger.saw(partition, next, offset, string(record.Value))
			next = offset + 1
		}
	}
}
