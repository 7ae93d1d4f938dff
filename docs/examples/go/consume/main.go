// Command consume reads a topic as a member of a consumer group, with nothing but
// the code that protoc generates from proto/: no library of Sluice's. Run it
// several times at once, and the partitions are shared out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func main() {
	server := flag.String("server", "127.0.0.1:9092", "where a node serves gRPC")
	topic := flag.String("topic", "flights", "a topic")
	group := flag.String("group", "counters", "the group to be a member of")
	count := flag.Int("count", 0, "how many records to read (0: until Ctrl-C)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Stdout, *server, *group, *topic, *count)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// member is one member of a group.
type member struct {
	stream grpc.BidiStreamingClient[sluicev1.ConsumeRequest, sluicev1.ConsumeResponse]
	out    io.Writer
	count  int // records to read, 0 for any
	read   int
	left   bool
}

// run joins a group and reads until it has enough.
func run(ctx context.Context, out io.Writer, server, group, topic string, count int) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := sluicev1.NewGroupServiceClient(conn).Consume(ctx)
	if err != nil {
		return err
	}
	m := &member{stream: stream, out: out, count: count}
	err = stream.Send(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Join{
		Join: &sluicev1.ConsumeJoin{
			Group:        group,
			Subscription: &sluicev1.Subscription{Topics: []string{topic}},
			ClientId:     "example",
			OffsetReset:  "earliest",
			CreditBytes:  1 << 20,
		},
	}})
	for err == nil {
		var message *sluicev1.ConsumeResponse
		if message, err = stream.Recv(); err == nil {
			err = m.act(message)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	fmt.Fprintf(out, "read %d records\n", m.read)
	return nil
}

// act does what the group says.
func (m *member) act(message *sluicev1.ConsumeResponse) error {
	switch event := message.GetEvent().(type) {
	case *sluicev1.ConsumeResponse_Assigned:
		for _, p := range event.Assigned.GetPartitions() {
			fmt.Fprintf(m.out, "reading %s-%d from offset %d\n", p.GetTopic(), p.GetPartition(),
				p.GetOffset())
		}
	case *sluicev1.ConsumeResponse_Revoking:
		// All records that came are worked on and committed. So it gives up.
		for _, t := range event.Revoking.GetTopics() {
			fmt.Fprintf(m.out, "giving up %s %v\n", t.GetTopic(), t.GetPartitions())
		}
		return m.stream.Send(&sluicev1.ConsumeRequest{
			Event: &sluicev1.ConsumeRequest_Revoked{Revoked: &sluicev1.ConsumeRevoked{}},
		})
	case *sluicev1.ConsumeResponse_Records:
		return m.work(event.Records)
	case *sluicev1.ConsumeResponse_Committed:
		for _, r := range event.Committed.GetResults() {
			if r.GetError() != nil {
				return errors.New(r.GetError().GetMessage())
			}
		}
	case *sluicev1.ConsumeResponse_Refused:
		return errors.New(event.Refused.GetError().GetMessage())
	}
	return nil
}

// work works on records, commits them, and lets more come.
func (m *member) work(r *sluicev1.ConsumeRecords) error {
	if m.left {
		return nil
	}
	next := r.GetNextOffset()
	records := r.GetRecords()
	if left := m.count - m.read; m.count > 0 && len(records) > left {
		next = records[left].GetOffset()
		records = records[:left]
	}
	m.read += len(records) // a real program would do something with them
	requests := []*sluicev1.ConsumeRequest{
		{Event: &sluicev1.ConsumeRequest_Commit{Commit: &sluicev1.ConsumeCommit{
			Offsets: []*sluicev1.CommittedOffset{{
				Topic: r.GetTopic(), Partition: r.GetPartition(), Offset: next,
			}},
		}}},
		{Event: &sluicev1.ConsumeRequest_Credit{Credit: &sluicev1.ConsumeCredit{
			CreditBytes: r.GetCreditBytes(),
		}}},
	}
	if m.read == m.count {
		m.left = true
		requests[1] = &sluicev1.ConsumeRequest{
			Event: &sluicev1.ConsumeRequest_Leave{Leave: &sluicev1.ConsumeLeave{}},
		}
	}
	for _, request := range requests {
		if err := m.stream.Send(request); err != nil {
			return err
		}
	}
	return nil
}
