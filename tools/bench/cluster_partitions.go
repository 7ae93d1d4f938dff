package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	restartRounds = 5
	killRounds    = 3
	settleTime    = 5 * time.Second
	idleTime      = 20 * time.Second
	ticksASecond  = 100 // of /proc/PID/stat, on Linux
)

// manyPartitions are the numbers of partitions, each with three replicas, that
// measurePartitions looks at, one after the other on the same cluster.
var manyPartitions = []int{0, 1_000, 10_000}

// measurePartitions measures what many partitions cost while nothing happens, how
// long a node takes to start with them, and how long until all are led again after
// the loss of one.
func measurePartitions(ctx context.Context, t *trio, _ int) error {
	var rows [][]string
	for i, count := range manyPartitions {
		created := "-"
		if i > 0 {
			told("%d partitions", count)
			begun := time.Now()
			if err := t.createTopic(ctx, fmt.Sprint("many", count), count-manyPartitions[i-1],
				clusterNodes, 2); err != nil {
				return err
			}
			created = fmt.Sprintf("%.1f", time.Since(begun).Seconds())
		}
		row, err := t.weigh(ctx, count)
		if err != nil {
			return err
		}
		rows = append(rows, append([]string{strconv.Itoa(count), created}, row...))
	}
	head("partitions, 3 replicas each", "made in, s", "stop, s", "start to ready, s",
		"start to in sync, s", "kill -9 until all are led, s", "resident, MiB",
		"idle, % of a core")
	for _, row := range rows {
		show(row...)
	}
	return nil
}

// weigh returns the cells of a row.
func (t *trio) weigh(ctx context.Context, count int) ([]string, error) {
	if err := t.awaitInSync(ctx); err != nil {
		return nil, err
	}
	var stops, starts, levels, losses []float64
	for round := range restartRounds + killRounds {
		id := round % clusterNodes
		if round < restartRounds {
			took, err := t.stop(id)
			if err != nil {
				return nil, err
			}
			stops = append(stops, took.Seconds())
		} else {
			begun := time.Now()
			t.kill(id)
			if err := t.await(ctx, func(c *clusterInfo) bool {
				return len(c.Brokers) < clusterNodes && c.led(count)
			}); err != nil {
				return nil, err
			}
			losses = append(losses, time.Since(begun).Seconds())
		}
		begun := time.Now()
		if err := t.start(ctx, id); err != nil {
			return nil, err
		}
		ready := time.Since(begun)
		if err := t.awaitInSync(ctx); err != nil {
			return nil, err
		}
		if round < restartRounds {
			starts = append(starts, ready.Seconds())
			levels = append(levels, time.Since(begun).Seconds())
		}
	}
	<-time.After(settleTime)
	idle, memory, err := t.idle(idleTime)
	if err != nil {
		return nil, err
	}
	return []string{
		between("%.1f", stops), between("%.2f", starts), between("%.1f", levels),
		between("%.1f", losses), between("%.0f", memory), between("%.1f", idle),
	}, nil
}

// idle returns for each node the processor time that it takes meanwhile, in percent
// of a core, and its resident memory in MiB.
func (t *trio) idle(meanwhile time.Duration) (percent, memory []float64, err error) {
	var before [clusterNodes]float64
	begun := time.Now()
	for id := range clusterNodes {
		if before[id], err = t.ticks(id); err != nil {
			return nil, nil, err
		}
	}
	<-time.After(meanwhile)
	seconds := time.Since(begun).Seconds()
	for id := range clusterNodes {
		after, err := t.ticks(id)
		if err != nil {
			return nil, nil, err
		}
		resident, err := t.resident(id)
		if err != nil {
			return nil, nil, err
		}
		percent = append(percent, (after-before[id])*100/ticksASecond/seconds)
		memory = append(memory, resident)
	}
	return percent, memory, nil
}

// ticks returns the processor time that a node has taken.
func (t *trio) ticks(id int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.processes[id].Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat is %q", text)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	system, failure := strconv.ParseFloat(fields[12], 64)
	return user + system, errors.Join(err, failure)
}

// resident returns the resident memory of a node in MiB.
func (t *trio) resident(id int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.processes[id].Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0, errors.New("/proc/PID/status has no VmRSS")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib / 1024, err
}
