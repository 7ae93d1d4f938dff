package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/wire"
)

// sluiceWay is how records are sent to a node.
type sluiceWay int

const (
	encodedBatches  sluiceWay = iota // Produce with record_batch
	plainRecords                     // Produce with records
	streamedBatches                  // ProduceStream with record_batch
	earlyBatches                     // encodedBatches with acks=1
)

const topic = "bench"

// runSluice does the job on a node of its own.
func runSluice(
	ctx context.Context, j job, dir, binary string, way sluiceWay, flags []string,
) (result, error) {
	node, address, metrics, err := startSluice(ctx, binary, dir, flags)
	if err != nil {
		return result{}, err
	}
	defer stop(node)
	conn, err := dial(address, way)
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	topics := sluicev1.NewTopicServiceClient(conn)
	_, err = topics.CreateTopic(ctx, &sluicev1.CreateTopicRequest{Topic: topic})
	if err != nil {
		return result{}, err
	}
	var producers []send
	for i := range j.Producers {
		conn, err := dial(address, way)
		if err != nil {
			return result{}, err
		}
		defer conn.Close()
		one, err := sluiceProducer(ctx, sluicev1.NewLogServiceClient(conn), way, values(j, i))
		if err != nil {
			return result{}, err
		}
		producers = append(producers, one)
	}
	profiled := make(chan error, 1)
	go func() { profiled <- j.profileNode(ctx, metrics) }()
	r, records, err := load(ctx, j, filepath.Join(dir, "log"), node.Process.Pid,
		producers)
	if err := errors.Join(err, <-profiled); err != nil {
		return r, err
	}
	if err := awaitEnd(ctx, conn, int64(records)); err != nil {
		return r, err
	}
	return r, r.footprint(j, node.Process.Pid, filepath.Join(dir, "log"), records)
}

// awaitEnd returns once the log has as many records as were answered: some of them
// may have been answered before they could be read.
func awaitEnd(ctx context.Context, conn *grpc.ClientConn, records int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	log := sluicev1.NewLogServiceClient(conn)
	for {
		end, err := log.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{Topic: topic, At: "latest"})
		if err != nil {
			return fmt.Errorf("looking for the end, %d: %w", records, err)
		}
		if end.GetOffset() > records {
			return fmt.Errorf("%d records were answered, the log has %d", records, end.GetOffset())
		}
		if end.GetOffset() == records {
			return nil
		}
		_, err = log.Fetch(ctx, &sluicev1.FetchRequest{
			Topic: topic, Offset: end.GetOffset(), MaxRecords: 1,
			MaxWait: durationpb.New(time.Second),
		})
		if err != nil {
			return err
		}
	}
}

// startSluice starts a node and returns where it serves gRPC and metrics.
func startSluice(
	ctx context.Context, binary, dir string, flags []string,
) (node *exec.Cmd, address, metrics string, err error) {
	node = exec.CommandContext(ctx, binary, append([]string{
		"serve", "--data-dir", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", "",
		"--registry-listen", "", "--metrics-listen", "127.0.0.1:0", "--log-level", "warn",
	}, flags...)...)
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	if err != nil {
		return nil, "", "", err
	}
	if err := node.Start(); err != nil {
		return nil, "", "", err
	}
	listens := regexp.MustCompile(`^  (gRPC|metrics) +(?:http://)?([^/ ]+)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch match := listens.FindStringSubmatch(lines.Text()); {
		case match == nil:
		case match[1] == "gRPC":
			address = match[2]
		default:
			metrics = match[2]
		}
		if address != "" && metrics != "" {
			return node, address, metrics, nil
		}
	}
	return nil, "", "", errors.Join(errors.New("the node did not start"), node.Wait())
}

// stop ends a server and waits for it.
func stop(server *exec.Cmd) {
	_ = server.Process.Signal(os.Interrupt) // it may be gone already
	_ = server.Wait()                       // what it ends with changes no number
}

// dial connects to a node as a careful user of generated stubs does, or, for streams,
// as the Go client does.
func dial(address string, way sluiceWay) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithWriteBufferSize(wire.SocketBufferBytes),
		grpc.WithInitialWindowSize(4 << 20), grpc.WithInitialConnWindowSize(16 << 20),
	}
	if way == streamedBatches {
		options = append(options,
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec())))
	}
	return grpc.NewClient(address, options...)
}

// sluiceProducer returns what sends the batches of one producer. As a client does,
// it encodes each of them.
func sluiceProducer(
	ctx context.Context, log sluicev1.LogServiceClient, way sluiceWay, values [][]byte,
) (send, error) {
	var encoded []byte
	request := func() (*sluicev1.ProduceRequest, error) {
		r := &sluicev1.ProduceRequest{Topic: topic, Partition: new(int32(0))}
		if way == plainRecords {
			for _, value := range values {
				r.Records = append(r.Records, &sluicev1.ProduceRecord{Value: value})
			}
			return r, nil
		}
		if way == earlyBatches {
			r.Acks = sluicev1.Acks_ACKS_LEADER
		}
		var err error
		encoded, err = encode(encoded[:0], values) // gRPC's own codec has copied it
		r.RecordBatch = encoded
		return r, err
	}
	if way != streamedBatches {
		return func(ctx context.Context) error {
			r, err := request()
			if err == nil {
				_, err = log.Produce(ctx, r)
			}
			return err
		}, nil
	}
	stream, err := log.ProduceStream(ctx)
	return func(context.Context) error { return sendStreamed(stream, values) }, err
}

// sendStreamed sends a batch and waits for its answer, with the memory of those
// before it, as the Go client does.
func sendStreamed(
	stream grpc.BidiStreamingClient[sluicev1.ProduceStreamRequest,
		sluicev1.ProduceStreamResponse], values [][]byte,
) error {
	bytes := 0
	for _, value := range values {
		bytes += len(value) + 64
	}
	encoded, err := wire.NewBatch(bytes, func(dst []byte) ([]byte, error) {
		return encode(dst, values)
	})
	if err != nil {
		return err
	}
	defer encoded.Free()
	message := &sluicev1.ProduceStreamRequest{Request: &sluicev1.ProduceRequest{
		Topic: topic, Partition: new(int32(0)), RecordBatch: encoded.ReadOnlyData(),
	}}
	err = stream.SendMsg(&wire.Streamed{ProduceStreamRequest: message, Batch: encoded})
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err == nil && answer.GetError() != nil {
		err = errors.New(answer.GetError().GetMessage())
	}
	return err
}
