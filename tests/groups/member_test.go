package groups

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	sluice "github.com/sluicelog/sluice/clients/go"
)

const (
	topic      = "flights"
	group      = "board"
	partitions = 6
	session    = 2 * time.Second
)

// consume is a member of the group that tells everything that happens to it and commits what it
// has told, until ctx is done.
func consume(
	ctx context.Context, client *sluice.Client, name string, tell func(event),
) (err error) {
	stored := func(ctx context.Context) map[int32]int64 {
		offsets, err := client.CommittedOffsets(ctx, group)
		if err != nil {
			return nil
		}
		found := map[int32]int64{}
		for _, o := range offsets {
			found[o.GetPartition()] = o.GetOffset()
		}
		return found
	}
	gone := func(_ context.Context, _ *sluice.Consumer, went []sluice.TopicPartition) {
		for _, p := range went {
			tell(event{Member: name, Kind: "gone", Partition: p.Partition})
		}
	}
	consumer, err := client.NewConsumer(
		sluice.WithGroup(group), sluice.WithOffsetReset(sluice.Beginning()),
		sluice.WithSessionTimeout(session), sluice.WithAutoCommit(0),
		sluice.WithMaxPollRecords(50), sluice.WithClientID(name),
		sluice.WithOnAssigned(func(
			ctx context.Context, _ *sluice.Consumer, came []sluice.TopicPartition,
		) {
			offsets := stored(ctx)
			for _, p := range came {
				offset, ok := offsets[p.Partition]
				if !ok {
					offset = -1
				}
				tell(event{Member: name, Kind: "assigned", Partition: p.Partition, Offset: offset})
			}
		}),
		sluice.WithOnRevoked(gone), sluice.WithOnLost(gone),
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	if err := consumer.Subscribe(topic); err != nil {
		return err
	}
	for {
		records, err := consumer.Poll(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := handle(ctx, consumer, name, records, tell); err != nil {
			return err
		}
	}
}

// handle tells of records and commits them.
func handle(
	ctx context.Context, consumer *sluice.Consumer, name string, records []sluice.Record,
	tell func(event),
) error {
	for _, r := range records {
		n, err := strconv.Atoi(string(r.Headers[0].Value))
		if err != nil {
			return err
		}
		tell(event{
			Member: name, Kind: "record", Partition: r.Partition, Offset: r.Offset,
			Key: string(r.Key), N: n,
		})
	}
	last := records[len(records)-1]
	err := consumer.CommitRecords(ctx, last)
	if err == nil {
		tell(event{
			Member: name, Kind: "committed", Partition: last.Partition, Offset: last.Offset + 1,
		})
	}
	if ctx.Err() != nil || fenced(err) {
		return nil //nolint:nilerr // others read it again
	}
	return err
}

// fenced reports whether a commit was refused because the partition is somebody else's by now.
func fenced(err error) bool {
	return errors.Is(err, sluice.ErrStaleMemberEpoch) ||
		errors.Is(err, sluice.ErrFencedMemberEpoch) || errors.Is(err, sluice.ErrUnknownMemberID)
}

// flights reads the first flights of the data.
func flights(count int) (keys []string, values [][]byte, err error) {
	file, err := os.Open("../../docs/data/flights.jsonl.gz")
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(unzipped)
	for lines.Scan() && len(keys) < count {
		var flight struct {
			Origin string `json:"origin"`
		}
		if err := json.Unmarshal(lines.Bytes(), &flight); err != nil {
			return nil, nil, err
		}
		keys = append(keys, flight.Origin)
		values = append(values, append([]byte(nil), lines.Bytes()...))
	}
	if len(keys) < count {
		return nil, nil, fmt.Errorf("%d flights, want %d: %w", len(keys), count, lines.Err())
	}
	return keys, values, nil
}

// produce writes the flights from first to end, in order of each airport.
func produce(
	ctx context.Context, producer *sluice.Producer, l *ledger, keys []string, values [][]byte,
	first, end int,
) error {
	for n := first; n < end; n++ {
		i := n % len(keys)
		record := sluice.Record{
			Topic: topic, Key: []byte(keys[i]), Value: values[i],
			Headers: []sluice.Header{{Key: "n", Value: []byte(strconv.Itoa(n))}},
		}
		err := producer.Produce(ctx, record, func(_ sluice.Record, err error) {
			if err == nil {
				l.produce(n)
			}
		})
		if err != nil {
			return err
		}
	}
	return producer.Flush(ctx)
}
