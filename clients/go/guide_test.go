package sluice_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/clients/go/serde"
)

// TestTheGuideIsWhatRunsHere wants every piece of Go in the guide to stand in this file, where it
// compiles and runs.
func TestTheGuideIsWhatRunsHere(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/go-client.md")
	require.NoError(t, err)
	source, err := os.ReadFile("guide_test.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	require.Len(t, blocks, 6)
	plain := func(text string) string {
		var lines []string
		for line := range strings.Lines(text) {
			lines = append(lines, strings.TrimSpace(line))
		}
		return strings.Join(lines, "\n")
	}
	for _, block := range blocks {
		assert.Contains(t, plain(string(source)), strings.TrimSpace(plain(block[1])))
	}
}

// out is what the guide's snippets print to. An example looks at os.Stdout when it runs.
var out io.Writer = stdout{}

type stdout struct{}

func (stdout) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// Example_guide runs the snippets of docs/guide/go-client.md one after the other.
func Example_guide() {
	client, stop := exampleClient("flights")
	defer stop()
	ctx := context.Background()
	check(guideDial())
	check(guideProduce(ctx, client))
	check(guideRead(ctx, client))
	produceValues(client, "flights", "JFK to SFO")
	check(guideGroup(ctx, client))
	check(guideValues(ctx))
	check(guideAdmin(ctx, client))
	// Output:
	// at flights-0, offset 0
	// SFO: SFO to JFK
	// billing SFO to JFK
	// billing JFK to SFO
	// giving up [flights-0]
	// SL 1 is 7 minutes late
	// flights-0 is 0 behind
}

func guideDial() error {
	client, err := sluice.Dial("10.0.0.1:9092,10.0.0.2:9092,10.0.0.3:9092")
	if err != nil {
		return err
	}
	defer client.Close()
	return nil
}

func guideProduce(ctx context.Context, client *sluice.Client) error {
	producer, err := client.NewProducer(sluice.WithCompression(sluice.CompressionZstd))
	if err != nil {
		return err
	}
	record := sluice.Record{Topic: "flights", Key: []byte("SFO"), Value: []byte("SFO to JFK")}
	err = producer.Produce(ctx, record, func(r sluice.Record, err error) {
		if err != nil {
			slog.Error("a flight was not written", "err", err)
			return
		}
		fmt.Fprintf(out, "at %s-%d, offset %d\n", r.Topic, r.Partition, r.Offset)
	})
	if err != nil {
		return err
	}
	return producer.Close() // waits until all are written
}

func guideRead(ctx context.Context, client *sluice.Client) error {
	consumer, err := client.NewConsumer(sluice.WithStopAtEnd())
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := consumer.AssignTopics(ctx, sluice.Beginning(), "flights"); err != nil {
		return err
	}
	for record, err := range consumer.Records(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %s\n", record.Key, record.Value)
	}
	return nil
}

func guideGroup(ctx context.Context, client *sluice.Client) error {
	consumer, err := client.NewConsumer(
		sluice.WithGroup("billing"),
		sluice.WithOffsetReset(sluice.Beginning()), // where the group has stored nothing
		sluice.WithAutoCommit(0),                   // we say what is done
		sluice.WithOnRevoked(func(
			ctx context.Context, c *sluice.Consumer, partitions []sluice.TopicPartition,
		) {
			fmt.Fprintln(out, "giving up", partitions) // the last moment to commit them
		}),
	)
	if err != nil {
		return err
	}
	defer consumer.Close() // leaves the group
	if err := consumer.Subscribe("flights"); err != nil {
		return err
	}
	for done := 0; done < 2; {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, record := range records {
			fmt.Fprintf(out, "billing %s\n", record.Value)
		}
		if err := consumer.CommitRecords(ctx, records...); err != nil {
			return err
		}
		done += len(records)
	}
	return nil
}

func guideValues(ctx context.Context) error {
	type Flight struct {
		Number string `json:"number"`
		Delay  int    `json:"delay"`
	}
	flights := serde.JSON[Flight]()
	value, err := flights.Serialize(ctx, "flights", Flight{Number: "SL 1", Delay: 7})
	if err != nil {
		return err
	}
	flight, err := flights.Deserialize(ctx, value)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is %d minutes late\n", flight.Number, flight.Delay)
	return nil
}

func guideAdmin(ctx context.Context, client *sluice.Client) error {
	_, err := client.CreateTopic(ctx, sluice.NewTopic{
		Name: "trains", Partitions: 6, Configs: map[string]string{"retention.ms": "86400000"},
	})
	if err != nil && !errors.Is(err, sluice.ErrTopicAlreadyExists) {
		return err
	}
	group, err := client.DescribeGroup(ctx, "billing")
	if err != nil {
		return err
	}
	for _, p := range group.GetPartitions() {
		fmt.Fprintf(out, "%s-%d is %d behind\n", p.GetTopic(), p.GetPartition(), p.GetLag())
	}
	return nil
}
