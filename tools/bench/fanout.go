package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
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
		c, err := n.listen(topic)
		if err != nil {
			return fmt.Errorf("listener %d: %w", i, err)
		}
		defer c.close()
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
	pace := time.NewTicker(fanOutInterval)
	defer pace.Stop()
	for range fanOutRecords {
		<-pace.C
		err := sender.do(prepare("POST", "/v1/topics/"+topic+"/records", "application/json",
			[]byte(`{"records":[{"value":"`+stamped(time.Since(begin))+`"}]}`)))
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
		if sent, ok := sentAt(line); ok {
			times = append(times, time.Since(begin)-sent)
		}
	}
	return times, nil
}

// stamped returns the value of a record that says when it was sent, in base64.
func stamped(at time.Duration) string {
	value := make([]byte, httpRecordBytes)
	binary.BigEndian.PutUint64(value, uint64(at))
	return base64.StdEncoding.EncodeToString(value)
}

// sentAt returns when the record in a line of an event was sent, if there is one.
func sentAt(line []byte) (time.Duration, bool) {
	_, after, found := bytes.Cut(line, []byte(`"value":"`))
	var sent [9]byte
	if !found || len(after) < 12 {
		return 0, false
	}
	if _, err := base64.StdEncoding.Decode(sent[:], after[:12]); err != nil {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint64(sent[:8])), true
}
