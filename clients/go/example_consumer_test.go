package sluice_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// produceValues writes records of the given values.
func produceValues(client *sluice.Client, topic string, values ...string) {
	producer, err := client.NewProducer()
	check(err)
	var records []sluice.Record
	for _, value := range values {
		records = append(records, sluice.Record{Topic: topic, Value: []byte(value)})
	}
	_, err = producer.ProduceSync(context.Background(), records...)
	check(err)
	check(producer.Close())
}

// A member of a group reads the partitions that the group gives it, and commits by itself.
func ExampleConsumer_Subscribe() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b", "c")

	var told sluice.RebalanceFunc = func(
		_ context.Context, _ *sluice.Consumer, partitions []sluice.TopicPartition,
	) {
		fmt.Fprintln(os.Stdout, "given", partitions[0].String())
	}
	var consumer *sluice.Consumer
	consumer, err := client.NewConsumer(
		sluice.WithGroup("board"),
		sluice.WithOffsetReset(sluice.Beginning()), // where the group has stored nothing
		sluice.WithOnAssigned(told),
		sluice.WithOnRevoked(func(
			_ context.Context, _ *sluice.Consumer, partitions []sluice.TopicPartition,
		) {
			fmt.Fprintln(os.Stdout, "gave up", partitions)
		}),
		sluice.WithOnLost(func(context.Context, *sluice.Consumer, []sluice.TopicPartition) {
			fmt.Fprintln(os.Stdout, "was taken for dead")
		}))
	check(err)
	check(consumer.Subscribe("flights"))
	ctx := context.Background()
	for seen := 0; seen < 3; {
		records, err := consumer.Poll(ctx)
		check(err)
		for _, r := range records {
			fmt.Fprintf(os.Stdout, "%s\n", r.Value)
		}
		seen += len(records)
	}
	check(consumer.Close()) // commits, and leaves the group
	committed, err := client.CommittedOffsets(ctx, "board")
	check(err)
	fmt.Fprintln(os.Stdout, "the group goes on at", committed[0].GetOffset())
	// Output:
	// given flights-0
	// a
	// b
	// c
	// gave up [flights-0]
	// the group goes on at 3
}

// A member leaves its group and reads on by itself.
func ExampleConsumer_Unsubscribe() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b")
	consumer, err := client.NewConsumer(sluice.WithGroup("board"), sluice.WithMaxPollRecords(1),
		sluice.WithOffsetReset(sluice.Beginning()))
	check(err)
	check(consumer.Subscribe("flights"))
	ctx := context.Background()
	records, err := consumer.Poll(ctx)
	check(err)
	fmt.Fprintf(os.Stdout, "a member read %s\n", records[0].Value)
	check(consumer.Unsubscribe(ctx)) // commits, and leaves the group

	check(consumer.AssignTopics(ctx, sluice.At(1), "flights"))
	records, err = consumer.Poll(ctx)
	check(err)
	fmt.Fprintf(os.Stdout, "alone it read %s\n", records[0].Value)
	check(consumer.Close())
	// Output:
	// a member read a
	// alone it read b
}

// Every option of a member with what it is by default, and all topics of a pattern.
func ExampleConsumer_SubscribePattern() {
	client, stop := exampleClient("flights-2001")
	defer stop()
	produceValues(client, "flights-2001", "a")
	options := []sluice.ConsumerOption{
		sluice.WithGroup("audit"),
		sluice.WithClientID("auditor-1"),
		sluice.WithInstanceID(""),                          // a name makes it static
		sluice.WithRack(""),                                // near which to read
		sluice.WithAssignor(""),                            // as the cluster says: uniform
		sluice.WithRebalanceProtocol(sluice.Cooperative),   // or Eager
		sluice.WithSessionTimeout(0),                       // as the cluster says: 45 s
		sluice.WithMaxPollInterval(5 * time.Minute),        //
		sluice.WithAutoCommit(5 * time.Second),             // 0: Commit is called
		sluice.WithIsolationLevel(sluice.ReadUncommitted),  // or ReadCommitted
		sluice.WithFetchBytes(1 << 20),                     //
		sluice.WithPrefetchBytes(16 << 20),                 //
		sluice.WithMaxPollRecords(500),                     //
		sluice.WithOffsetReset(sluice.Ago(24 * time.Hour)), // default End
	}
	//nolint:staticcheck // the type is what is shown
	var protocols []sluice.RebalanceProtocol = []sluice.RebalanceProtocol{
		sluice.Cooperative, sluice.Eager,
	}
	//nolint:staticcheck // the type is what is shown
	var levels []sluice.IsolationLevel = []sluice.IsolationLevel{
		sluice.ReadUncommitted, sluice.ReadCommitted,
	}
	fmt.Fprintln(os.Stdout, len(protocols), len(levels))
	consumer, err := client.NewConsumer(options...)
	check(err)
	check(consumer.SubscribePattern("flights-.*"))
	for record, err := range consumer.Records(context.Background()) {
		check(err)
		fmt.Fprintln(os.Stdout, record.Topic, string(record.Value))
		break
	}
	check(consumer.Close())
	// Output:
	// 2 2
	// flights-2001 a
}

// A program that decides itself what counts as done.
func ExampleConsumer_Commit() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b", "c")
	consumer, err := client.NewConsumer(sluice.WithGroup("billing"), sluice.WithAutoCommit(0),
		sluice.WithOffsetReset(sluice.Beginning()))
	check(err)
	check(consumer.Subscribe("flights"))
	ctx := context.Background()
	records, err := consumer.Poll(ctx)
	check(err)
	check(consumer.CommitRecords(ctx, records[0])) // this one, and all before it
	check(consumer.Commit(ctx, sluice.CommitOffset{
		Topic: "flights", Offset: 2, Metadata: "half-way",
	}))
	done := make(chan error, 1)
	consumer.CommitAsync(func(offsets []sluice.CommitOffset, err error) {
		fmt.Fprintln(os.Stdout, "stored", offsets[0].Offset)
		done <- err
	})
	if err := <-done; errors.Is(err, sluice.ErrStaleMemberEpoch) ||
		errors.Is(err, sluice.ErrFencedMemberEpoch) ||
		errors.Is(err, sluice.ErrUnknownMemberID) || errors.Is(err, sluice.ErrCommitsPending) {
		fmt.Fprintln(os.Stdout, "somebody else reads it by now, or the coordinator is slow")
	}
	fmt.Fprintln(os.Stdout, "lag:", consumer.Metrics()["records-lag-max"])
	check(consumer.Close())
	// Output:
	// stored 3
	// lag: 0
}

// Going back, and holding one partition up.
func ExampleConsumer_Seek() {
	client, stop := exampleClient("flights")
	defer stop()
	produceValues(client, "flights", "a", "b", "c")
	consumer, err := client.NewConsumer(sluice.WithStopAtEnd())
	check(err)
	ctx := context.Background()
	check(consumer.Assign(ctx, sluice.Assignment{Topic: "flights", From: sluice.At(2)}))
	read := func() {
		for record, err := range consumer.Records(ctx) {
			check(err)
			fmt.Fprintf(os.Stdout, "%s", record.Value)
		}
		fmt.Fprintln(os.Stdout)
	}
	read()
	check(consumer.Seek(ctx, "flights", 0, sluice.Since(time.Unix(0, 0))))
	read()
	//nolint:staticcheck // the type is what is shown
	var position sluice.Position = consumer.Positions()[0]
	fmt.Fprintln(os.Stdout, "next", position.NextOffset, "of", position.HighWatermark)

	partition := sluice.TopicPartition{Topic: "flights"}
	check(consumer.Pause(partition))
	fmt.Fprintln(os.Stdout, "paused:", consumer.Positions()[0].Paused)
	check(consumer.Resume(partition))
	check(consumer.Close())
	for _, offset := range []sluice.Offset{
		sluice.Beginning(), sluice.End(), sluice.At(42), sluice.Ago(time.Hour),
	} {
		fmt.Fprint(os.Stdout, offset.String(), " ")
	}
	// Output:
	// c
	// abc
	// next 3 of 3
	// paused: true
	// beginning end 42 @-1h0m0s
}

// What Poll may return besides records.
func ExampleWithoutOffsetReset() {
	client, stop := exampleClient("flights")
	defer stop()
	ctx := context.Background()
	consumer, err := client.NewConsumer(sluice.WithGroup("new"), sluice.WithoutOffsetReset())
	check(err)
	defer consumer.Close()
	_, err = consumer.Poll(ctx)
	fmt.Fprintln(os.Stdout, errors.Is(err, sluice.ErrNotAssigned))
	check(consumer.Subscribe("flights"))
	_, err = consumer.Poll(ctx)
	switch {
	case errors.Is(err, io.EOF): // with WithStopAtEnd
	case errors.Is(err, sluice.ErrNoOffsetForPartition):
		fmt.Fprintln(os.Stdout, "the group has stored nothing")
	case errors.Is(err, sluice.ErrOffsetOutOfRange):
		fmt.Fprintln(os.Stdout, "the log has gone on")
	case errors.Is(err, sluice.ErrFencedInstanceID),
		errors.Is(err, sluice.ErrUnreleasedInstanceID):
		fmt.Fprintln(os.Stdout, "another process has this name")
	case errors.Is(err, sluice.ErrInvalidRegularExpression),
		errors.Is(err, sluice.ErrGroupMaxSizeReached):
		fmt.Fprintln(os.Stdout, "the group does not take it")
	}
	fmt.Fprintln(os.Stdout, errors.Is(
		consumer.Assign(ctx, sluice.Assignment{Topic: "flights"}), sluice.ErrSubscribed))
	alone, err := client.NewConsumer()
	check(err)
	defer alone.Close()
	fmt.Fprintln(os.Stdout, errors.Is(alone.Subscribe("flights"), sluice.ErrNoGroup))
	byHand, err := client.NewConsumer(sluice.WithGroup("other"))
	check(err)
	defer byHand.Close()
	check(byHand.AssignTopics(ctx, sluice.End(), "flights"))
	fmt.Fprintln(os.Stdout, errors.Is(byHand.Subscribe("flights"), sluice.ErrAssigned))
	// Output:
	// true
	// the group has stored nothing
	// true
	// true
	// true
}
