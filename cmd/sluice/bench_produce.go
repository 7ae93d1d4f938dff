package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluice "github.com/sluicelog/sluice/clients/go"
)

func newBenchProduceCommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "produce",
		Short: "Measure writing",
		Long: "Writes records without keys, and measures for each how long it took until it\n" +
			"was acknowledged. With --http it writes through the HTTP API instead: each client\n" +
			"sends one POST after the other, of as many records as --batch-size holds.",
		Example: "  sluice bench produce --records 1000000 --record-size 100\n" +
			"  sluice bench produce --topic flights --throughput 10000 --output json\n" +
			"  sluice bench produce --http http://127.0.0.1:8082 --clients 4",
		Args: cobra.NoArgs,
	}
	l := addLoad(c, conn, 1_000_000)
	l.addWriting(c, 0)
	c.Flags().StringVar(&l.httpURL, "http", "", "write to the HTTP API at this `URL`")
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		if err := l.check(0); err != nil {
			return err
		}
		measure := l.produceGRPC
		if l.httpURL != "" {
			measure = l.produceHTTP
		}
		return l.withTopic(ctx, client, func(ctx context.Context) error {
			l.bar = newProgress(c.ErrOrStderr(), "writing", l.records, "records")
			result, err := measure(ctx, c)
			l.bar.done()
			if err != nil {
				return err
			}
			return result.write(conn, c.OutOrStdout())
		})
	})
	return c
}

// produceGRPC measures the Go client.
func (l *workload) produceGRPC(ctx context.Context, c *cobra.Command) (*benchResult, error) {
	var more []sluice.ProducerOption
	if l.recordSize < 1<<20-1000 {
		// As by default: a larger buffer would only be a longer queue.
		more = append(more, sluice.WithMaxRequestBytes(1<<20), sluice.WithBufferBytes(32<<20))
	}
	options, err := l.producer.options(c, more...)
	if err != nil {
		return nil, err
	}
	histograms := make([]histogram, l.clients)
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i, share := range l.shares() {
		group.Go(func() error {
			return l.produceClient(ctx, start, share, options, &histograms[i])
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	took, total := time.Since(start), merged(histograms)
	return l.result(total.total, total.total*int64(l.recordSize), took, "a record", total), nil
}

// produceClient writes the share of one client, on a connection of its own. It
// returns after the last callback: until then they own the histogram.
func (l *workload) produceClient(
	ctx context.Context, start time.Time, share int64, options []sluice.ProducerOption,
	h *histogram,
) error {
	client, err := l.conn.dial()
	if err != nil {
		return err
	}
	producer, err := client.NewProducer(options...)
	if err != nil {
		return errors.Join(&usageError{err}, client.Close())
	}
	var failed atomic.Pointer[error]
	pace, values := l.pacer(start), newPayload(l.recordSize)
	for n := range share {
		var due time.Time
		if due, err = pace.wait(ctx, n); err != nil {
			break
		}
		record := sluice.Record{Topic: l.topic, Value: values.value()}
		err = producer.Produce(ctx, record, func(_ sluice.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
			h.record(time.Since(due))
			l.count(1)
		})
		if err != nil || failed.Load() != nil {
			break
		}
	}
	err = errors.Join(err, producer.Close(), client.Close())
	if first := failed.Load(); first != nil {
		return fmt.Errorf("a record was not written: %w", *first)
	}
	return err
}
