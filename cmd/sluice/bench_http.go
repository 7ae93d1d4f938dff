package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// postRecordsMax is how many records the API takes at once.
const postRecordsMax = 10_000

// produceHTTP measures POST /v1/topics/{topic}/records.
func (l *workload) produceHTTP(ctx context.Context, _ *cobra.Command) (*benchResult, error) {
	base, err := url.Parse(l.httpURL)
	if err != nil || base.Host == "" {
		return nil, wrongUsage("--http is %q, want a URL such as http://127.0.0.1:8082", l.httpURL)
	}
	target := base.JoinPath("v1", "topics", l.topic, "records").String()
	transport := &http.Transport{
		MaxIdleConns: l.clients, MaxIdleConnsPerHost: l.clients, DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: callTimeout}
	histograms := make([]histogram, l.clients)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i, share := range l.shares() {
		group.Go(func() error {
			return l.postClient(ctx, client, target, start, share, &histograms[i])
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	took, total := time.Since(start), merged(histograms)
	return l.result(total.total, total.total*int64(l.recordSize), took, "a record", total), nil
}

// postClient writes the share of one client, one request after the other. All
// records of a request share its latency.
func (l *workload) postClient(
	ctx context.Context, client *http.Client, target string, start time.Time, share int64,
	h *histogram,
) error {
	batch := int64(min(postRecordsMax, max(1, int(l.producer.batchBytes)/max(1, l.recordSize))))
	pace, values := l.pacer(start), newPayload(l.recordSize)
	var body []byte
	due := make([]time.Time, 0, batch)
	for n := int64(0); n < share; {
		due = due[:0]
		body = append(body[:0], `{"records":[`...)
		for ; n < share && int64(len(due)) < batch; n++ {
			at, err := pace.wait(ctx, n)
			if err != nil {
				return err
			}
			if len(due) > 0 {
				body = append(body, ',')
			}
			due = append(due, at)
			body = append(body, `{"value":"`...)
			body = base64.StdEncoding.AppendEncode(body, values.value())
			body = append(body, `"}`...)
		}
		body = append(body, `],"acks":"`+l.producer.acksJSON()+`","compression":"`+
			l.producer.compressionJSON()+`"}`...)
		if err := post(ctx, client, target, body); err != nil {
			return err
		}
		now := time.Now()
		for _, at := range due {
			h.record(now.Sub(at))
		}
		l.count(int64(len(due)))
	}
	return nil
}

// acksJSON returns the acks as the API names them.
func (p *producerFlags) acksJSON() string {
	switch p.acks {
	case "0":
		return "ACKS_NONE"
	case "1":
		return "ACKS_LEADER"
	}
	return "ACKS_ALL"
}

// compressionJSON returns the compression as the API names it.
func (p *producerFlags) compressionJSON() string {
	return "COMPRESSION_" + string(bytes.ToUpper([]byte(p.compression)))
}

// post sends a request and wants the answer 200.
func post(ctx context.Context, client *http.Client, target string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("POST %s: %s: %s", target, response.Status, bytes.TrimSpace(text))
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
