package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	clientRecordBytes = 100
	clientRecords     = 200_000
	clientPaced       = 20_000 // records of a run at a fixed rate
	clientRate        = 5_000  // records a second of it
)

// The batch sizes, lingers and compressions that benchClient compares.
var (
	clientBatches      = []int{16 << 10, 64 << 10, 256 << 10, 1 << 20}
	clientLingers      = []string{"0s", "1ms", "5ms", "20ms"}
	clientCompressions = []string{"none", "gzip", "snappy", "lz4", "zstd"}
)

// clientResult is what `sluice bench` says of a run.
type clientResult struct {
	RecordsPerSecond float64 `json:"records_per_second"`
	Latency          struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

// benchClient prints three tables: the client at full speed and at a fixed rate for each batch
// size and linger, each compression at full speed, and reading.
func benchClient(ctx context.Context, binary string, rounds int) error {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	n, err := startNode(ctx, binary, filepath.Join(dir, "node"))
	if err != nil {
		return err
	}
	defer n.stop()
	if err := n.createTopic(ctx, "batches"); err != nil {
		return err
	}
	if err := n.clientBatching(ctx, rounds); err != nil {
		return err
	}
	if err := n.clientCompression(ctx, rounds); err != nil {
		return err
	}
	return n.clientReading(ctx, rounds)
}

// clientRuns repeats a run and returns its results.
func (n *node) clientRuns(
	ctx context.Context, rounds int, args ...string,
) (results []clientResult, err error) {
	args = slices.Concat([]string{"bench"}, args, []string{"--output", "json"})
	for range rounds {
		out, err := n.sluice(ctx, args...)
		if err != nil {
			return nil, err
		}
		var result clientResult
		if err := json.Unmarshal(out, &result); err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

// spread returns the median of a number with the lowest and highest.
func spread(results []clientResult, digits int, of func(clientResult) float64) string {
	numbers := make([]float64, len(results))
	for i, r := range results {
		numbers[i] = of(r)
	}
	return between(fmt.Sprintf("%%.%df", digits), numbers)
}

// clientBatching compares batch sizes and lingers.
func (n *node) clientBatching(ctx context.Context, rounds int) error {
	fmt.Fprintf(os.Stdout, "| batch.size | linger | records/s | p99, ms | p50 at %d/s, ms "+
		"| p99 at %d/s, ms |\n|---|---|---|---|---|---|\n", clientRate, clientRate)
	for _, size := range clientBatches {
		for _, linger := range clientLingers {
			common := []string{
				"produce", "--topic", "batches", "--record-size",
				strconv.Itoa(clientRecordBytes), "--batch-size", strconv.Itoa(size),
				"--linger", linger,
			}
			fast, err := n.clientRuns(ctx, rounds, append(slices.Clone(common),
				"--records", strconv.Itoa(clientRecords))...)
			if err != nil {
				return err
			}
			paced, err := n.clientRuns(ctx, rounds, append(slices.Clone(common),
				"--records", strconv.Itoa(clientPaced),
				"--throughput", strconv.Itoa(clientRate))...)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stdout, "| %d KiB | %s | %s | %s | %s | %s |\n", size>>10,
				strings.Replace(linger, "0s", "0", 1),
				spread(fast, 0, func(r clientResult) float64 { return r.RecordsPerSecond }),
				spread(fast, 1, func(r clientResult) float64 { return r.Latency.P99 }),
				spread(paced, 2, func(r clientResult) float64 { return r.Latency.P50 }),
				spread(paced, 2, func(r clientResult) float64 { return r.Latency.P99 }))
		}
	}
	return nil
}

// clientCompression compares codecs.
func (n *node) clientCompression(ctx context.Context, rounds int) error {
	fmt.Fprint(os.Stdout, "\n| compression | records/s | p99, ms |\n|---|---|---|\n")
	for _, codec := range clientCompressions {
		runs, err := n.clientRuns(ctx, rounds, "produce", "--topic", "batches",
			"--record-size", strconv.Itoa(clientRecordBytes), "--records",
			strconv.Itoa(clientRecords), "--compression", codec)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stdout, "| %s | %s | %s |\n", codec,
			spread(runs, 0, func(r clientResult) float64 { return r.RecordsPerSecond }),
			spread(runs, 1, func(r clientResult) float64 { return r.Latency.P99 }))
	}
	return nil
}

// clientReading reads topics of one and six partitions, with one client and three.
func (n *node) clientReading(ctx context.Context, rounds int) error {
	fmt.Fprint(os.Stdout, "\n| reading | records/s |\n|---|---|\n")
	if _, err := n.sluice(ctx, "topic", "create", "read", "--partitions", "6"); err != nil {
		return err
	}
	if _, err := n.clientRuns(ctx, 1, "produce", "--topic", "read", "--record-size",
		strconv.Itoa(clientRecordBytes), "--records", strconv.Itoa(4*clientRecords)); err != nil {
		return err
	}
	for _, clients := range []int{1, 3} {
		runs, err := n.clientRuns(ctx, rounds, "consume", "--topic", "read", "--records",
			strconv.Itoa(4*clientRecords), "--clients", strconv.Itoa(clients))
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stdout, "| 6 partitions, clients: %d | %s |\n", clients,
			spread(runs, 0, func(r clientResult) float64 { return r.RecordsPerSecond }))
	}
	return nil
}
