package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	crowdTopic   = "crowd"
	crowdRecords = 5
	crowdCalls   = 200 // of another caller, while the crowd listens
	crowdFiles   = 500 // descriptors that a process needs beside its listeners
	crowdBeat    = 40 * time.Second
	crowdWait    = time.Minute // for a record to reach everyone on a busy machine
)

// crowd is listeners of one topic that mostly wait.
type crowd struct {
	n     *node
	conns []*connection
	beats chan int           // has the listener of each heartbeat
	got   chan time.Duration // has, for each record and listener, how long it took
	ended chan error
	begun time.Time
}

// benchCrowd holds many idle listeners of server-sent events on a node and prints what
// they cost it. It fails unless each of them gets heartbeats and every record, other
// callers are served meanwhile, and the node ends the streams when it stops.
func benchCrowd(ctx context.Context, binary string, listeners int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < uint64(listeners+crowdFiles) {
		return fmt.Errorf("%d listeners need %d open files (ulimit -Hn), and %d are allowed",
			listeners, listeners+crowdFiles, limit.Max)
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := startNode(ctx, binary, filepath.Join(dir, "node"),
		"--set", "http.max.streams="+strconv.Itoa(listeners+16),
		"--set", "http.max.connections="+strconv.Itoa(listeners+1024))
	if err != nil {
		return err
	}
	c := &crowd{
		n: n, beats: make(chan int, listeners), got: make(chan time.Duration, listeners),
		ended: make(chan error, listeners), begun: time.Now(),
	}
	err = c.hold(ctx, listeners)
	n.stop()
	if err == nil {
		err = c.disperse()
	}
	for _, conn := range c.conns {
		conn.close()
	}
	return err
}

// hold connects the listeners and tries everything but the end.
func (c *crowd) hold(ctx context.Context, listeners int) error {
	if err := c.n.createTopic(ctx, crowdTopic); err != nil {
		return err
	}
	before, err := c.n.usage()
	if err != nil {
		return err
	}
	for i := range listeners {
		conn, err := c.n.listen(crowdTopic)
		if err != nil {
			return fmt.Errorf("listener %d: %w", i, err)
		}
		c.conns = append(c.conns, conn)
		go func() { c.ended <- c.follow(i, conn) }()
	}
	took := time.Since(c.begun)
	after, err := c.n.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%d listeners connected in %.1f s, %.1f kB of resident memory each\n",
		listeners, took.Seconds(), (after.resident-before.resident)/float64(listeners)/1e3)
	if err := c.heartbeats(listeners); err != nil {
		return err
	}
	if err := c.others(); err != nil {
		return err
	}
	return c.records(listeners)
}

// listen begins a stream of server-sent events.
func (n *node) listen(topic string) (*connection, error) {
	c, err := dial(n.http)
	if err != nil {
		return nil, err
	}
	request := "GET /v1/topics/" + topic + "/records:stream HTTP/1.1\r\nHost: bench\r\n\r\n"
	if _, err := c.conn.Write([]byte(request)); err != nil {
		return nil, err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("%q, %w", line, err)
	}
	return c, nil
}

// follow reads a stream to its end: nil where the node ended it in order.
func (c *crowd) follow(i int, conn *connection) error {
	for {
		line, err := conn.reader.ReadSlice('\n')
		switch {
		case err != nil:
			return fmt.Errorf("listener %d: %w", i, err)
		case bytes.HasPrefix(line, []byte("0\r\n")): // the last chunk
			return nil
		case bytes.HasPrefix(line, []byte(":")):
			c.beats <- i
			continue
		}
		if sent, ok := sentAt(line); ok {
			c.got <- time.Since(c.begun) - sent
		}
	}
}

// heartbeats waits until each listener had one, and says what they cost.
func (c *crowd) heartbeats(listeners int) error {
	before, err := c.n.usage()
	if err != nil {
		return err
	}
	begun, had := time.Now(), make([]bool, listeners)
	late := time.After(crowdBeat)
	for left := listeners; left > 0; {
		select {
		case i := <-c.beats:
			if !had[i] {
				had[i] = true
				left--
			}
		case err := <-c.ended:
			return fmt.Errorf("a stream ended: %w", err)
		case <-late:
			return fmt.Errorf("%d listeners had no heartbeat in %s", left, crowdBeat)
		}
	}
	after, err := c.n.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "all had a heartbeat within %.1f s; idle, they cost %.1f %% of a core\n",
		time.Since(begun).Seconds(),
		(after.cpuSeconds-before.cpuSeconds)/time.Since(begun).Seconds()*100)
	return nil
}

// others calls the node as somebody else would.
func (c *crowd) others() error {
	conn, err := dial(c.n.http)
	if err != nil {
		return err
	}
	defer conn.close()
	request := prepare("GET", "/v1/topics/"+crowdTopic, "", nil)
	var times []time.Duration
	for range crowdCalls {
		begun := time.Now()
		if err := conn.do(request); err != nil {
			return fmt.Errorf("another caller: %w", err)
		}
		times = append(times, time.Since(begun))
	}
	slices.Sort(times)
	fmt.Fprintf(os.Stdout, "another caller meanwhile: p50 %.2f ms, p99 %.2f ms\n",
		times[crowdCalls/2].Seconds()*1e3, times[crowdCalls*99/100].Seconds()*1e3)
	return nil
}

// records sends some, one after another, and waits until everyone has each.
func (c *crowd) records(listeners int) error {
	sender, err := dial(c.n.http)
	if err != nil {
		return err
	}
	defer sender.close()
	var last []time.Duration
	for range crowdRecords {
		err := sender.do(prepare("POST", "/v1/topics/"+crowdTopic+"/records", "application/json",
			[]byte(`{"records":[{"value":"`+stamped(time.Since(c.begun))+`"}]}`)))
		if err != nil {
			return err
		}
		var took time.Duration
		late := time.After(crowdWait)
		for left := listeners; left > 0; {
			select {
			case t := <-c.got:
				took = max(took, t)
				left--
			case <-c.beats:
			case err := <-c.ended:
				return fmt.Errorf("a stream ended: %w", err)
			case <-late:
				return fmt.Errorf("%d listeners did not get a record in %s", left, crowdWait)
			}
		}
		last = append(last, took)
	}
	slices.Sort(last)
	fmt.Fprintf(os.Stdout, "a record of 1 KiB reached the last of them after %.0f ms "+
		"(%.0f to %.0f)\n", last[crowdRecords/2].Seconds()*1e3, last[0].Seconds()*1e3,
		last[crowdRecords-1].Seconds()*1e3)
	return nil
}

// disperse looks how the streams ended when the node stopped.
func (c *crowd) disperse() error {
	var errs []error
	for range c.conns {
		if err := <-c.ended; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d streams were cut off when the node stopped: %w", len(errs),
			errors.Join(errs[:min(3, len(errs))]...))
	}
	fmt.Fprintln(os.Stdout, "the node stopped and ended every stream in order")
	return nil
}
