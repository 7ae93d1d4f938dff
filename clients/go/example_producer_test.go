package sluice_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/tests/node"
)

// exampleClient starts a node with a topic for an example, and returns a client of it, and what
// ends both.
func exampleClient(topic string) (*sluice.Client, func()) {
	address, stop := exampleNode(topic)
	client, err := sluice.Dial(address)
	check(err)
	return client, func() {
		check(client.Close())
		stop()
	}
}

// Several addresses, a log and hooks. A program that needs encryption adds sluice.WithTLS.
func ExampleDial() {
	address, stop := exampleNode("flights")
	defer stop()
	// One address does not answer, and the other does.
	client, err := sluice.Dial("127.0.0.1:1,"+address,
		sluice.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
		sluice.WithGRPCOptions(grpc.WithUserAgent("departures-board")),
		sluice.WithHooks(sluice.Hooks{
			OnRequest: func(r sluice.RequestInfo) {
				if r.Name == "Produce" {
					fmt.Fprintln(os.Stdout, r.Name, "answered by one of the nodes:", r.Err)
				}
			},
			OnBatch: func(b sluice.BatchInfo) {
				fmt.Fprintln(os.Stdout, "batch of", b.Records, "for", b.Topic)
			},
			OnFetch:     func(f sluice.FetchInfo) {},
			OnRebalance: func(r sluice.RebalanceInfo) {},
		}))
	check(err)
	defer client.Close()
	count, err := client.PartitionCount(context.Background(), "flights")
	check(err)
	fmt.Fprintln(os.Stdout, "partitions:", count)
	producer, err := client.NewProducer()
	check(err)
	_, err = producer.ProduceSync(context.Background(), sluice.Record{Topic: "flights"})
	check(err)
	check(producer.Close())

	_, err = sluice.Dial("nowhere", sluice.WithTLS(&tls.Config{MinVersion: tls.VersionTLS13}))
	fmt.Fprintln(os.Stdout, err)
	// Output:
	// partitions: 1
	// batch of 1 for flights
	// Produce answered by one of the nodes: <nil>
	// dialing nowhere: "nowhere" is not host:port
}

// A program that has a connection already, or the node inside the same process, needs no Dial.
func ExampleNewClient() {
	tb := &exampleTB{}
	defer tb.stop()
	//nolint:staticcheck // the type is what is shown
	var conn grpc.ClientConnInterface = node.Start(tb).Conn()
	var options []sluice.DialOption
	//nolint:staticcheck // the type is what is shown
	var client *sluice.Client = sluice.NewClient(conn, options...)
	defer client.Close()
	cluster, err := client.Cluster(context.Background())
	check(err)
	fmt.Fprintln(os.Stdout, "brokers:", len(cluster.GetBrokers()))
	// Output: brokers: 1
}

// Every option of a producer with what it is by default.
func ExampleProducerOption() {
	client, stop := exampleClient("flights")
	defer stop()
	options := []sluice.ProducerOption{
		sluice.WithAcks(sluice.AcksAll), // or AcksLeader, AcksNone
		sluice.WithIdempotence(true),
		sluice.WithCompression(sluice.CompressionNone),
		sluice.WithBatchBytes(256 << 10),
		sluice.WithLinger(5 * time.Millisecond),
		sluice.WithBufferBytes(32 << 20),
		sluice.WithMaxBlock(time.Minute),
		sluice.WithMaxInFlight(5),
		sluice.WithMaxRequestBytes(1 << 20),
		sluice.WithRequestTimeout(30 * time.Second),
		sluice.WithDeliveryTimeout(2 * time.Minute),
		sluice.WithRetryBackoff(100*time.Millisecond, time.Second),
	}
	producer, err := client.NewProducer(options...)
	check(err)
	written, err := producer.ProduceSync(context.Background(), sluice.Record{
		Topic: "flights", Value: []byte("SFO to JFK"),
		Headers: []sluice.Header{{Key: "source", Value: []byte("tower")}},
	})
	check(err)
	fmt.Fprintln(os.Stdout, "offset", written[0].Offset)
	check(producer.Close())
	// Output: offset 0
}

// A partitioner of one's own; ManualPartitioner is another, which takes Record.Partition.
func ExampleWithPartitioner() {
	client, stop := exampleClient("flights")
	defer stop()
	var evens sluice.Partitioner = func(r *sluice.Record, partitions int32) int32 {
		return int32(len(r.Value)) % partitions
	}
	for _, partitioner := range []sluice.Partitioner{evens, sluice.ManualPartitioner} {
		producer, err := client.NewProducer(sluice.WithPartitioner(partitioner))
		check(err)
		_, err = producer.ProduceSync(context.Background(),
			sluice.Record{Topic: "flights", Partition: 7, Value: []byte("x")})
		fmt.Fprintln(os.Stdout, errors.Is(err, sluice.ErrInvalidPartition), err)
		check(producer.Close())
	}
	// Output:
	// false <nil>
	// true partition 7 of topic flights, which has 1: sluice: no such partition
}

func ExampleProducer_Flush() {
	client, stop := exampleClient("flights")
	defer stop()
	var producer *sluice.Producer
	producer, err := client.NewProducer(sluice.WithLinger(time.Minute))
	check(err)
	ctx := context.Background()
	check(producer.Produce(ctx, sluice.Record{Topic: "flights"}, nil))
	check(producer.Flush(ctx)) // does not wait for the linger
	//nolint:staticcheck // the type is what is shown
	var metrics sluice.Metrics = producer.Metrics()
	fmt.Fprintln(os.Stdout, "sent:", metrics["record-send-total"])
	check(producer.CloseNow()) // nothing is left; Close would have waited for it
	// Output: sent: 1
}

// What Produce refuses, and what a callback may be told.
func ExampleErrBufferFull() {
	client, stop := exampleClient("flights")
	defer stop()
	producer, err := client.NewProducer(sluice.WithMaxRequestBytes(1000))
	check(err)
	ctx := context.Background()
	explain := func(err error) {
		var e *sluice.Error
		switch {
		case errors.Is(err, sluice.ErrUnknownTopicOrPartition):
			fmt.Fprintln(os.Stdout, "create the topic first")
		case errors.Is(err, sluice.ErrRecordTooLarge), errors.Is(err, sluice.ErrMessageTooLarge):
			fmt.Fprintln(os.Stdout, "send less at once")
		case errors.Is(err, sluice.ErrBufferFull), errors.Is(err, sluice.ErrDeliveryTimeout),
			errors.Is(err, sluice.ErrRequestTimedOut),
			errors.Is(err, sluice.ErrBrokerNotAvailable):
			fmt.Fprintln(os.Stdout, "the cluster is away, or slow")
		case errors.Is(err, sluice.ErrClosed):
			fmt.Fprintln(os.Stdout, "too late")
		case errors.As(err, &e):
			fmt.Fprintln(os.Stdout, e.Reason, e.Retriable)
		}
	}
	explain(producer.Produce(ctx, sluice.Record{Topic: "trains"}, nil))
	explain(producer.Produce(ctx, sluice.Record{Topic: "flights", Value: make([]byte, 2000)}, nil))
	check(producer.Close())
	explain(producer.Produce(ctx, sluice.Record{Topic: "flights"}, nil))
	// Output:
	// create the topic first
	// send less at once
	// too late
}

func ExampleParseAcks() {
	acks, err := sluice.ParseAcks("1")
	check(err)
	fmt.Fprintln(os.Stdout, acks.String(), acks == sluice.AcksLeader)
	for _, acks := range []sluice.Acks{sluice.AcksAll, sluice.AcksNone} {
		fmt.Fprintln(os.Stdout, acks)
	}
	_, err = sluice.ParseAcks("2")
	fmt.Fprintln(os.Stdout, err)
	// Output:
	// 1 true
	// all
	// 0
	// acks is "2", want all, 1 or 0
}

func ExampleParseCompression() {
	compression, err := sluice.ParseCompression("lz4")
	check(err)
	fmt.Fprintln(os.Stdout, compression == sluice.CompressionLZ4)
	for _, c := range []sluice.Compression{
		sluice.CompressionNone, sluice.CompressionGzip, sluice.CompressionSnappy,
		sluice.CompressionZstd,
	} {
		fmt.Fprintln(os.Stdout, c.String())
	}
	// Output:
	// true
	// none
	// gzip
	// snappy
	// zstd
}
