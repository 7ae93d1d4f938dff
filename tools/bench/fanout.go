package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	fanOutRecords  = 100
	fanOutInterval = 50 * time.Millisecond
)

// benchFanOut measures how long after a record is sent each listener of its
// topic has it, as server-sent events, and prints a row.
func (n *node) benchFanOut(ctx context.Context, rounds, listeners int) error {
	const topic = "bench-live"
	if err := n.createTopic(ctx, topic); err != nil {
		return err
	}
	idle, err := n.usage()
	if err != nil {
		return err
	}
	conns := make([]*connection, listeners)
	for i := range conns {
		c, err := dial(n.http)
		if err != nil {
			return err
		}
		defer c.close()
		request := "GET /v1/topics/" + topic + "/records:stream HTTP/1.1\r\nHost: bench\r\n\r\n"
		if _, err := c.conn.Write([]byte(request)); err != nil {
			return err
		}
		if line, err := c.reader.ReadString('\n'); err != nil ||
			!strings.HasPrefix(line, "HTTP/1.1 200 ") {
			return fmt.Errorf("listener %d: %q, %w", i, line, err)
		}
		conns[i] = c
	}
	held, err := n.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\n%d listeners that are idle: %.1f kB of resident memory each\n",
		listeners, (held.resident-idle.resident)/float64(listeners)/1e3)
	fmt.Fprint(os.Stdout, "\n| live, one topic | listeners | p50 | p99, median (lowest to "+
		"highest) | CPU a record and listener |\n|---|---|---|---|---|\n")
	var p50s, p99s []time.Duration
	var cpu []float64
	for range rounds {
		before, err := n.usage()
		if err != nil {
			return err
		}
		all, err := n.fanOut(topic, conns)
		if err != nil {
			return err
		}
		after, err := n.usage()
		if err != nil {
			return err
		}
		slices.Sort(all)
		p50s = append(p50s, all[len(all)/2])
		p99s = append(p99s, all[len(all)*99/100])
		cpu = append(cpu, (after.cpuSeconds-before.cpuSeconds)*1e6/float64(len(all)))
	}
	slices.Sort(p50s)
	slices.Sort(p99s)
	slices.Sort(cpu)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	fmt.Fprintf(os.Stdout, "| server-sent events, 1 KiB | %d | %.1f ms | %.1f ms (%.1f to %.1f) | "+
		"%.1f µs |\n", listeners, ms(p50s[rounds/2]), ms(p99s[rounds/2]), ms(p99s[0]),
		ms(p99s[rounds-1]), cpu[rounds/2])
	return nil
}

// fanOut sends records, each with the time in its value, and returns how long
// each took to each listener.
func (n *node) fanOut(topic string, conns []*connection) ([]time.Duration, error) {
	begin := time.Now()
	times := make([][]time.Duration, len(conns))
	errs := make([]error, len(conns))
	var readers sync.WaitGroup
	for i, c := range conns {
		readers.Go(func() { times[i], errs[i] = c.receive(begin) })
	}
	sender, err := dial(n.http)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	value := make([]byte, httpRecordBytes)
	pace := time.NewTicker(fanOutInterval)
	defer pace.Stop()
	for range fanOutRecords {
		<-pace.C
		binary.BigEndian.PutUint64(value, uint64(time.Since(begin)))
		err := sender.do(prepare("POST", "/v1/topics/"+topic+"/records", "application/json",
			[]byte(`{"records":[{"value":"`+base64.StdEncoding.EncodeToString(value)+`"}]}`)))
		if err != nil {
			return nil, err
		}
	}
	readers.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return slices.Concat(times...), nil
}

// receive reads the records of a round from a stream.
func (c *connection) receive(begin time.Time) (times []time.Duration, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	for len(times) < fanOutRecords {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		_, after, found := bytes.Cut(line, []byte(`"value":"`))
		if !found || len(after) < 12 {
			continue
		}
		var sent [9]byte
		if _, err := base64.StdEncoding.Decode(sent[:], after[:12]); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin)-time.Duration(binary.BigEndian.Uint64(sent[:8])))
	}
	return times, nil
}
