package sluice_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/tests/node"
)

// exampleNode starts a node for an example, which the caller stops. A program of one's own has
// the address of one.
func exampleNode(topic string) (address string, stop func()) {
	tb := &exampleTB{}
	address = node.Start(tb).Address()
	client, err := sluice.Dial(address)
	check(err)
	_, err = client.CreateTopic(context.Background(), sluice.NewTopic{Name: topic, Partitions: 1})
	check(err)
	check(client.Close())
	return address, tb.stop
}

// exampleTB is as much of a testing.TB as a node needs.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                   {}
func (e *exampleTB) Cleanup(f func())        { e.cleanups = append(e.cleanups, f) }
func (*exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (*exampleTB) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "sluice-example-")
	check(err)
	e.Cleanup(func() { check(os.RemoveAll(dir)) })
	return dir
}

func (e *exampleTB) stop() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func Example() {
	address, stop := exampleNode("flights")
	defer stop()
	ctx := context.Background()

	client, err := sluice.Dial(address)
	check(err)
	defer client.Close()

	producer, err := client.NewProducer(sluice.WithCompression(sluice.CompressionZstd))
	check(err)
	_, err = producer.ProduceSync(ctx, sluice.Record{
		Topic: "flights", Key: []byte("SFO"), Value: []byte("SFO to JFK"),
	})
	check(err)
	check(producer.Close())

	consumer, err := client.NewConsumer(sluice.WithStopAtEnd())
	check(err)
	defer consumer.Close()
	check(consumer.AssignTopics(ctx, sluice.Beginning(), "flights"))
	for record, err := range consumer.Records(ctx) {
		check(err)
		fmt.Fprintf(os.Stdout, "%d %s: %s\n", record.Offset, record.Key, record.Value)
	}
	// Output: 0 SFO: SFO to JFK
}

func ExampleProducer_Produce() {
	address, stop := exampleNode("flights")
	defer stop()
	client, err := sluice.Dial(address)
	check(err)
	defer client.Close()
	producer, err := client.NewProducer(sluice.WithLinger(time.Millisecond))
	check(err)

	for _, value := range []string{"a", "b", "c"} {
		record := sluice.Record{Topic: "flights", Value: []byte(value)}
		err := producer.Produce(context.Background(), record, func(r sluice.Record, err error) {
			if err != nil {
				fmt.Fprintln(os.Stdout, "lost:", err)
				return
			}
			fmt.Fprintf(os.Stdout, "%s is at %s-%d offset %d\n", r.Value, r.Topic, r.Partition,
				r.Offset)
		})
		check(err)
	}
	check(producer.Close()) // returns after the last callback
	// Output:
	// a is at flights-0 offset 0
	// b is at flights-0 offset 1
	// c is at flights-0 offset 2
}

func ExampleClient_Topic() {
	address, stop := exampleNode("flights")
	defer stop()
	client, err := sluice.Dial(address)
	check(err)
	defer client.Close()

	topic, err := client.Topic(context.Background(), "flights")
	check(err)
	fmt.Fprintln(os.Stdout, topic.GetTopic(), "has", topic.GetPartitionCount(), "partition")
	_, err = client.Topic(context.Background(), "trains")
	fmt.Fprintln(os.Stdout, err)
	// Output:
	// flights has 1 partition
	// describing topic trains: Topic trains not found.
}

func ExampleConsumer_Poll() {
	address, stop := exampleNode("flights")
	defer stop()
	client, err := sluice.Dial(address)
	check(err)
	defer client.Close()
	producer, err := client.NewProducer()
	check(err)
	defer producer.Close()
	consumer, err := client.NewConsumer(sluice.WithMaxPollRecords(100))
	check(err)
	defer consumer.Close()

	ctx := context.Background()
	check(consumer.Assign(ctx, sluice.Assignment{
		Topic: "flights", Partition: 0, From: sluice.Beginning(),
	}))
	_, err = producer.ProduceSync(ctx,
		sluice.Record{Topic: "flights", Value: []byte("one")},
		sluice.Record{Topic: "flights", Value: []byte("two")})
	check(err)
	for read := 0; read < 2; {
		records, err := consumer.Poll(ctx)
		check(err)
		for _, record := range records {
			fmt.Fprintf(os.Stdout, "%s\n", record.Value)
		}
		read += len(records)
	}
	next, _ := consumer.NextOffset("flights", 0)
	fmt.Fprintln(os.Stdout, "next:", next)
	// Output:
	// one
	// two
	// next: 2
}
