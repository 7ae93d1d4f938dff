package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// runRedis does the job on a Redis of its own: a pipeline of XADD for each batch.
func runRedis(ctx context.Context, j job, dir, policy string) (result, error) {
	server, address, err := startRedis(ctx, dir, policy)
	if err != nil {
		return result{}, err
	}
	defer stop(server)
	var producers []send
	for i := range j.Producers {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return result{}, err
		}
		defer conn.Close()
		producers = append(producers, redisProducer(conn, values(j, i)))
	}
	r, records, err := load(ctx, j, dir, server.Process.Pid, producers)
	if err != nil {
		return r, err
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	if _, err := conn.Write(redisCommand([]byte("XLEN"), []byte(topic))); err != nil {
		return r, err
	}
	length, err := redisReply(bufio.NewReader(conn))
	if err == nil && length != strconv.Itoa(records) {
		err = fmt.Errorf("%d records were answered, the stream has %s", records, length)
	}
	if err != nil {
		return r, err
	}
	return r, r.footprint(j, server.Process.Pid, dir, records)
}

// startRedis starts Redis with its defaults but for what the job is about: no
// snapshots, an append-only file, and when that is synced.
func startRedis(ctx context.Context, dir, policy string) (*exec.Cmd, string, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address) // it is an address
	server := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port,
		"--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", policy)
	if err := server.Start(); err != nil {
		return nil, "", err
	}
	for patience := time.Now().Add(10 * time.Second); time.Now().Before(patience); {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			<-time.After(10 * time.Millisecond)
			continue
		}
		conn.Close()
		return server, address, nil
	}
	return nil, "", errors.Join(errors.New("Redis does not answer"), server.Process.Kill())
}

// redisProducer returns what sends the batches of one producer.
func redisProducer(conn net.Conn, values [][]byte) send {
	in := bufio.NewReader(conn)
	return func(context.Context) error {
		var pipeline bytes.Buffer
		for _, value := range values {
			pipeline.Write(redisCommand([]byte("XADD"), []byte(topic), []byte("*"),
				[]byte("v"), value))
		}
		if _, err := conn.Write(pipeline.Bytes()); err != nil {
			return err
		}
		for range values {
			if _, err := redisReply(in); err != nil {
				return err
			}
		}
		return nil
	}
}

// redisCommand writes a command in Redis's protocol (RESP).
func redisCommand(words ...[]byte) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		b = fmt.Appendf(b, "$%d\r\n", len(word))
		b = append(append(b, word...), "\r\n"...)
	}
	return b
}

// redisReply reads a reply that is one value.
func redisReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", fmt.Errorf("reply %q", line)
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(in, text)
		return string(text[:n]), err
	}
	return rest, nil
}
