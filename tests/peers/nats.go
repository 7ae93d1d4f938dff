package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsServer runs NATS with JetStream in a directory until it is interrupted, and
// prints its URL.
func natsServer(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: nats-server DIR always|default")
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: args[0],
		SyncAlways: args[1] == "always", NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("NATS does not start")
	}
	fmt.Fprintln(os.Stdout, s.ClientURL())
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, os.Interrupt)
	<-stopped
	s.Shutdown()
	return nil
}

// runNATS does the job on a server of its own: one stream of one subject in a file
// store. A batch is published without waiting, and then all its answers are
// awaited; or it is one atomic batch (NATS 2.12), which is answered as a whole.
func runNATS(ctx context.Context, j job, dir string, synced, batched bool) (result, error) {
	policy := "default"
	if synced {
		policy = "always"
	}
	process := exec.CommandContext(ctx, os.Args[0], "nats-server", dir, policy)
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	if err := process.Start(); err != nil {
		return result{}, err
	}
	defer stop(process)
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return result{}, fmt.Errorf("NATS did not start: %w", err)
	}
	url = strings.TrimSpace(url)
	conn, err := nats.Connect(url)
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return result{}, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: topic, Subjects: []string{topic}, Storage: jetstream.FileStorage,
		AllowAtomicPublish: true,
	})
	if err != nil {
		return result{}, err
	}
	var producers []send
	for i := range j.Producers {
		one, closeIt, err := natsProducer(url, values(j, i), i, batched)
		if err != nil {
			return result{}, err
		}
		defer closeIt()
		producers = append(producers, one)
	}
	r, records, err := load(ctx, j, dir, process.Process.Pid, producers)
	if err != nil {
		return r, err
	}
	info, err := stream.Info(ctx)
	if err == nil && info.State.Msgs != uint64(records) {
		err = fmt.Errorf("%d records were answered, the stream has %d", records, info.State.Msgs)
	}
	if err != nil {
		return r, err
	}
	return r, r.footprint(j, process.Process.Pid, dir, records)
}

// natsProducer returns what sends the batches of one producer, on a connection of
// its own.
func natsProducer(
	url string, values [][]byte, producer int, batched bool,
) (one send, closeIt func(), err error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(len(values)))
	if err != nil {
		return nil, nil, err
	}
	if !batched {
		return func(ctx context.Context) error { return natsPublish(ctx, js, values) },
			conn.Close, nil
	}
	n := 0
	return func(ctx context.Context) error {
		n++
		return natsAtomic(ctx, conn, values, fmt.Sprintf("%d-%d", producer, n))
	}, conn.Close, nil
}

// natsPublish publishes messages and waits for all answers.
func natsPublish(ctx context.Context, js jetstream.JetStream, values [][]byte) error {
	futures := make([]jetstream.PubAckFuture, len(values))
	for i, value := range values {
		var err error
		if futures[i], err = js.PublishAsync(topic, value); err != nil {
			return err
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// natsAtomic publishes messages as one atomic batch.
func natsAtomic(ctx context.Context, conn *nats.Conn, values [][]byte, id string) error {
	for i, value := range values {
		m := nats.NewMsg(topic)
		m.Data = value
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(values)-1 {
			if err := conn.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		answer, err := conn.RequestMsgWithContext(ctx, m)
		if err != nil {
			return err
		}
		if strings.Contains(string(answer.Data), `"error"`) {
			return errors.New(string(answer.Data))
		}
	}
	return nil
}
