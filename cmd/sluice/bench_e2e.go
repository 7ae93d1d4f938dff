package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluice "github.com/sluicelog/sluice/clients/go"
)

const (
	// A value begins with the mark of its run and when it was due.
	markBytes  = 8
	stampBytes = markBytes + 8
	// stallMax is how long the reader waits for a record before it gives up.
	stallMax = 30 * time.Second
)

func newBenchE2ECommand(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "e2e",
		Short: "Measure the way from a producer to a consumer",
		Long: "Writes records and reads them at the same time, and measures for each how long\n" +
			"it took from when it was due to be written until it was read.",
		Example: "  sluice bench e2e --throughput 5000 --linger 0",
		Args:    cobra.NoArgs,
	}
	l := addLoad(c, conn, 10_000)
	l.addWriting(c, 1000)
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		if err := l.check(stampBytes); err != nil {
			return err
		}
		options, err := l.producer.options(c)
		if err != nil {
			return err
		}
		return l.withTopic(ctx, client, func(ctx context.Context) error {
			l.bar = newProgress(c.ErrOrStderr(), "measuring", l.records, "records")
			result, err := l.e2e(ctx, client, options)
			l.bar.done()
			if err != nil {
				return err
			}
			return result.write(conn, c.OutOrStdout())
		})
	})
	return c
}

// e2e writes with every client and reads with one consumer.
func (l *workload) e2e(
	ctx context.Context, client *sluice.Client, options []sluice.ProducerOption,
) (*benchResult, error) {
	consumer, err := client.NewConsumer()
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	if err := consumer.AssignTopics(ctx, sluice.End(), l.topic); err != nil {
		return nil, err
	}
	mark := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	var h histogram
	group, groupCtx := errgroup.WithContext(ctx)
	start := time.Now()
	for _, share := range l.shares() {
		group.Go(func() error { return l.stampClient(groupCtx, start, share, options, mark) })
	}
	group.Go(func() error { return l.readStamps(groupCtx, consumer, start, mark, &h) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return nil, err
	}
	return l.result(h.total, h.total*int64(l.recordSize), time.Since(start), "a record", &h), nil
}

// stampClient writes the share of one client.
func (l *workload) stampClient(
	ctx context.Context, start time.Time, share int64, options []sluice.ProducerOption,
	mark []byte,
) error {
	client, err := l.conn.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	producer, err := client.NewProducer(options...)
	if err != nil {
		return &usageError{err}
	}
	failed := make(chan error, 1)
	pace, values := l.pacer(start), newPayload(l.recordSize)
	for n := range share {
		due, waitErr := pace.wait(ctx, n)
		if err = waitErr; err != nil {
			break
		}
		value := bytes.Clone(values.value())
		copy(value, mark)
		binary.BigEndian.PutUint64(value[markBytes:], uint64(due.Sub(start)))
		record := sluice.Record{Topic: l.topic, Value: value}
		err = producer.Produce(ctx, record, func(_ sluice.Record, err error) {
			if err != nil {
				select {
				case failed <- fmt.Errorf("a record was not written: %w", err):
				default:
				}
			}
		})
		if err != nil || len(failed) > 0 {
			break
		}
	}
	err = errors.Join(err, producer.Close())
	select {
	case lost := <-failed:
		return lost
	default:
		return err
	}
}

// readStamps reads until it has seen every record of this run.
func (l *workload) readStamps(
	ctx context.Context, consumer *sluice.Consumer, start time.Time, mark []byte, h *histogram,
) error {
	for h.total < l.records {
		pollCtx, cancel := context.WithTimeout(ctx, l.stall())
		records, err := consumer.Poll(pollCtx)
		cancel()
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%d of %d records came, and none for %v", h.total, l.records,
				l.stall())
		}
		if err != nil {
			return err
		}
		now := time.Since(start)
		for _, r := range records {
			if len(r.Value) < stampBytes || !bytes.HasPrefix(r.Value, mark) {
				continue // somebody else's
			}
			h.record(now - time.Duration(binary.BigEndian.Uint64(r.Value[markBytes:])))
			l.count(1)
		}
	}
	return nil
}

// stall is how long no record may come: at a low throughput, that is long.
func (l *workload) stall() time.Duration {
	if l.throughput == 0 {
		return stallMax
	}
	return stallMax + 2*time.Duration(int64(time.Second)*int64(l.clients)/l.throughput)
}
