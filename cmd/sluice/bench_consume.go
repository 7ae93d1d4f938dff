package main

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluice "github.com/sluicelog/sluice/clients/go"
)

func newBenchConsumeCommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "consume --topic T",
		Short: "Measure reading",
		Long: "Reads a topic from its beginning until it has so many records, or to its end.\n" +
			"The clients divide the partitions. The latency is that of a call that returns up\n" +
			"to 500 records: how long a program waits for them.",
		Example: "  sluice bench consume --topic flights --records 1000000",
		Args:    cobra.NoArgs,
	}
	l := addLoad(c, conn, 1_000_000)
	must(c.MarkFlagRequired("topic"))
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		if err := l.check(0); err != nil {
			return err
		}
		partitions, err := client.PartitionCount(ctx, l.topic)
		if err != nil {
			return err
		}
		l.clients = min(l.clients, int(partitions))
		l.bar = newProgress(c.ErrOrStderr(), "reading", l.records, "records")
		result, err := l.consume(ctx, partitions)
		l.bar.done()
		if err != nil {
			return err
		}
		if result.Records == 0 {
			return errors.New("topic " + l.topic + " holds no records: write some with " +
				"'sluice bench produce --topic " + l.topic + "'")
		}
		return result.write(conn, c.OutOrStdout())
	})
	return c
}

// consume measures the clients.
func (l *workload) consume(ctx context.Context, partitions int32) (*benchResult, error) {
	histograms := make([]histogram, l.clients)
	var records, size atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range l.clients {
		var assigned []sluice.Assignment
		for p := int32(i); p < partitions; p += int32(l.clients) {
			assigned = append(assigned, sluice.Assignment{Topic: l.topic, Partition: p})
		}
		group.Go(func() error {
			return l.consumeClient(ctx, assigned, &records, &size, &histograms[i])
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	took, total := time.Since(start), merged(histograms)
	return l.result(records.Load(), size.Load(), took, "a call", total), nil
}

// consumeClient reads partitions on a connection of its own until all clients
// together have enough.
func (l *workload) consumeClient(
	ctx context.Context, assigned []sluice.Assignment, records, size *atomic.Int64, h *histogram,
) error {
	client, err := l.conn.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := client.NewConsumer(sluice.WithStopAtEnd())
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := consumer.Assign(ctx, assigned...); err != nil {
		return err
	}
	for records.Load() < l.records {
		begin := time.Now()
		polled, err := consumer.Poll(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.record(time.Since(begin))
		bytes := int64(0)
		for i := range polled {
			bytes += int64(len(polled[i].Value))
		}
		records.Add(int64(len(polled)))
		size.Add(bytes)
		l.count(int64(len(polled)))
	}
	return nil
}
