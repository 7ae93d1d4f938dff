// Command bench measures a node from outside, beside a plain append-only file
// with the same durability, in one run:
//
//	go run ./tools/bench -bin bin/sluice
//
// It starts a node in a folder of its own, writes and reads records of 100
// bytes, 1 KiB and 10 KiB through the Go gRPC client and through HTTP, and
// prints the table of docs/benchmarks.md: medians over the rounds with the
// lowest and highest, and the ratio to the file of the same round.
//
// With -http it measures the HTTP surfaces: requests of a raw client, the node's
// processor time and allocations for each, and the fan-out of a live stream. With
// -against it measures a second binary by turns, and -only narrows the requests down.
//
// With -crowd it holds that many listeners of a live stream which mostly wait, and
// fails unless each gets what it should.
//
// With -client it measures what batches cost and bring: throughput and latency of
// the Go client at batch sizes and lingers, and how fast it reads.
//
// With -cluster it measures three nodes: one replica against three, how long the
// loss of a leader lasts, how fast a node that was away catches up, and what 1,000
// and 10,000 partitions cost. -only rates,failover,catchup,partitions narrows it
// down.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// batchBytes is the size of a batch of every way of writing.
const batchBytes = 256 << 10

// sizes are the record sizes, in bytes, and how many records of each make a
// measurement of about the same number of bytes.
var sizes = []struct{ recordBytes, count int }{
	{100, 200_000}, {1 << 10, 40_000}, {10 << 10, 5_000},
}

func main() {
	binary := flag.String("bin", "bin/sluice", "the sluice `binary`")
	rounds := flag.Int("rounds", 5, "`number` of rounds")
	surfaces := flag.Bool("http", false, "measure the HTTP surfaces instead")
	client := flag.Bool("client", false, "measure the Go client's batching instead")
	nodes := flag.Bool("cluster", false, "measure a cluster of three nodes instead")
	only := flag.String("only", "", "`parts` of -cluster, comma between, or a part of names "+
		"of -http; empty is all")
	against := flag.String("against", "", "another `binary`, for -http")
	listeners := flag.Int("listeners", 1000, "`number` of listeners of the fan-out, with -http")
	listening := flag.Int("crowd", 0, "hold this `number` of idle listeners instead")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	switch {
	case *surfaces:
		err = benchHTTP(ctx, *binary, *against, *only, *rounds, *listeners)
	case *listening > 0:
		err = benchCrowd(ctx, *binary, *listening)
	case *client:
		err = benchClient(ctx, *binary, *rounds)
	case *nodes:
		err = benchCluster(ctx, *binary, *rounds, *only)
	default:
		err = bench(ctx, *binary, *rounds)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// way is one way of moving records; it returns records per second.
type way struct {
	name string
	run  func(ctx context.Context, recordBytes, count int) (float64, error)
}

func bench(ctx context.Context, binary string, rounds int) error {
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
	ways := []way{
		{"append-only file", fileWay(filepath.Join(dir, "file"))},
		{"produce, gRPC", n.produceGRPC},
		{"produce, HTTP", n.produceHTTP},
		{"fetch, gRPC", n.fetchGRPC},
		{"fetch, HTTP", n.fetchHTTP},
	}
	fmt.Fprint(os.Stdout, "| record | way | records/s, median (lowest to highest) | MB/s "+
		"| of the file |\n|---|---|---|---|---|\n")
	for _, size := range sizes {
		if err := n.createTopic(ctx, topicName(size.recordBytes)); err != nil {
			return err
		}
		rates := make([][]float64, len(ways))
		for round := range rounds {
			for i, w := range ways {
				rate, err := w.run(ctx, size.recordBytes, size.count)
				if err != nil {
					return fmt.Errorf("%s, %d bytes: %w", w.name, size.recordBytes, err)
				}
				rates[i] = append(rates[i], rate)
				fmt.Fprintf(os.Stderr, "\r%d B, round %d of %d, %-20s",
					size.recordBytes, round+1, rounds, w.name)
			}
		}
		fmt.Fprint(os.Stderr, "\r"+strings.Repeat(" ", 60)+"\r")
		for i, w := range ways {
			printRow(size.recordBytes, w.name, rates[i], rates[0])
		}
	}
	return nil
}

func topicName(recordBytes int) string { return fmt.Sprintf("bench-%d", recordBytes) }

// printRow prints a row of the table. The ratio is the median of the rounds'
// own ratios, because a shared machine changes its speed from round to round.
func printRow(recordBytes int, name string, rates, file []float64) {
	ratios := make([]float64, len(rates))
	for i := range rates {
		ratios[i] = rates[i] / file[i]
	}
	slices.Sort(rates)
	slices.Sort(ratios)
	middle := rates[len(rates)/2]
	fmt.Fprintf(os.Stdout, "| %d B | %s | %.0f (%.0f to %.0f) | %.1f | %.2f (%.2f to %.2f) |\n",
		recordBytes, name, middle, rates[0], rates[len(rates)-1],
		middle*float64(recordBytes)/1e6,
		ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
}
