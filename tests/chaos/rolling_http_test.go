package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// postUntil writes numbered records over HTTP until ctx ends, each by way of any
// node, also of one that is away, and again while that is retriable.
func postUntil(
	ctx context.Context, c *cluster, written, again *atomic.Int64, fail func(string, error),
) {
	client := newRestClient(c, nil, 0, rand.New(rand.NewPCG(7, 7)))
	defer client.http.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprintf("http-%d", n)
		err := untilTaken(context.WithoutCancel(ctx), again, func(ctx context.Context) error {
			var answer struct {
				Results []restRecord `json:"results"`
			}
			record := restRecord{Partition: int32(n % partitions), Value: []byte(value)}
			err := client.do(ctx, http.MethodPost, "/v1/topics/"+rollingTopic+"/records", value,
				map[string]any{"acks": "ACKS_ALL", "records": []restRecord{record}}, &answer)
			if err == nil && len(answer.Results) != 1 {
				err = fmt.Errorf("%d results", len(answer.Results))
			}
			return err
		})
		fail("a POST", err)
		if err == nil {
			written.Add(1)
		}
		_ = sleep(ctx, rollingRecord)
	}
}

// untilTaken makes a request again while it fails with what is retriable.
func untilTaken(
	ctx context.Context, again *atomic.Int64, request func(context.Context) error,
) error {
	for deadline := time.Now().Add(settleLimit); ; again.Add(1) {
		err := request(ctx)
		if err == nil || !errors.Is(err, errAgain) || time.Now().After(deadline) {
			return err
		}
		_ = sleep(ctx, retryPause)
	}
}

// getAll counts the records of all partitions over HTTP.
func getAll(ctx context.Context, c *cluster, fail func(string, error)) int64 {
	client := newRestClient(c, nil, 0, rand.New(rand.NewPCG(8, 8)))
	defer client.http.CloseIdleConnections()
	count := int64(0)
	for partition := range partitions {
		for next, end := int64(0), int64(1); next < end; {
			var page struct {
				Records       []restRecord `json:"records"`
				HighWatermark int64        `json:"high_watermark,string"`
			}
			err := untilTaken(ctx, &atomic.Int64{}, func(ctx context.Context) error {
				return client.do(ctx, http.MethodGet, fmt.Sprintf(
					"/v1/topics/%s/partitions/%d/records?offset=%d", rollingTopic, partition, next),
					"", nil, &page)
			})
			if fail("a GET", err); err != nil {
				return count
			}
			count += int64(len(page.Records))
			next, end = next+int64(len(page.Records)), page.HighWatermark
		}
	}
	return count
}
