// Command go writes a record to Sluice and reads it back, with nothing but the
// code that protoc generates from proto/: no library of Sluice's.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func main() {
	server := flag.String("server", "127.0.0.1:9092", "where a node serves gRPC")
	topic := flag.String("topic", "flights", "a topic that exists")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := writeAndRead(ctx, os.Stdout, *server, *topic); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// writeAndRead produces one record and fetches what its partition holds from
// there on.
func writeAndRead(ctx context.Context, out io.Writer, server, topic string) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	log := sluicev1.NewLogServiceClient(conn)

	written, err := log.Produce(ctx, &sluicev1.ProduceRequest{
		Topic: topic,
		Records: []*sluicev1.ProduceRecord{{
			Key:     []byte("SFO"),
			Value:   []byte(`{"origin":"SFO","destination":"JFK"}`),
			Headers: []*sluicev1.Header{{Name: "client", Value: []byte("go")}},
		}},
	})
	if err != nil {
		return fmt.Errorf("producing: %w", err)
	}
	where := written.GetResults()[0]
	fmt.Fprintf(out, "wrote %s-%d at offset %d\n", topic, where.GetPartition(), where.GetOffset())

	read, err := log.Fetch(ctx, &sluicev1.FetchRequest{
		Topic:     topic,
		Partition: where.GetPartition(),
		Offset:    where.GetOffset(),
		MaxWait:   durationpb.New(time.Second),
	})
	if err != nil {
		return fmt.Errorf("fetching: %w", err)
	}
	for _, record := range read.GetRecords() {
		fmt.Fprintf(out, "read offset %d: %s = %s\n", record.GetOffset(), record.GetKey(),
			record.GetValue())
	}
	return nil
}
