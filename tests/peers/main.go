// Command peers does the same work on Sluice, NATS JetStream and Redis Streams, and
// on Sluice's storage layer alone, in one run:
//
//	cd tests/peers && go run . -bin ../../bin/sluice
//
// Producers, each on a connection of its own, send batches of records to one log
// and wait for the answer of each batch before the next. Every measurement has a
// server process and a directory of its own; the systems take turns, round by round.
// It prints the tables of docs/benchmarks.md: medians with the lowest and highest.
//
// The package is a module of its own, so that the peers' libraries stay out of the
// product. NATS runs as a process of this binary (nats.go), Redis is Debian's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// job is what every system has to do.
type job struct {
	Producers   int           `json:"producers"`
	Records     int           `json:"records"` // of a batch
	RecordBytes int           `json:"record_bytes"`
	Lasts       time.Duration `json:"lasts"`

	Profiles string `json:"profiles"` // directory of CPU profiles, if there are to be any
	System   string `json:"system"`   // that does the job
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "nats-server" {
		exit(natsServer(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "storage" {
		exit(storageWork(os.Args[2:]))
	}
	var j job
	binary := flag.String("bin", "../../bin/sluice", "the sluice `binary`")
	rounds := flag.Int("rounds", 5, "`number` of rounds")
	only := flag.String("only", "", "only systems whose name contains this `text`")
	flag.IntVar(&j.Producers, "producers", 8, "`number` of producers")
	flag.IntVar(&j.Records, "records", 100, "`number` of records in a batch")
	flag.IntVar(&j.RecordBytes, "record-bytes", 1024, "`size` of a record's value")
	flag.DurationVar(&j.Lasts, "lasts", 5*time.Second, "how long a measurement `lasts`")
	flag.StringVar(&j.Profiles, "profiles", "",
		"`directory` for CPU profiles of Sluice's processes and their producers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := compare(ctx, j, systems(*binary), *rounds, *only)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// system is one way to have the work done.
type system struct {
	name   string
	synced bool // an answer says that the records are on disk
	// run does the job in a directory of its own.
	run func(ctx context.Context, j job, dir string) (result, error)
}

// result is what one measurement came to.
type result struct {
	RecordsPerSecond float64       `json:"records_per_second"`
	P50              time.Duration `json:"p50"` // of a batch
	P99              time.Duration `json:"p99"`
	DiskPerByte      float64       `json:"disk_per_byte"` // by which the directory grew
	ResidentBytes    int64         `json:"resident_bytes"`
	// The processor time that a batch took of the server, and of its producers where
	// these are another process.
	ServerCPU    time.Duration `json:"server_cpu"`
	ProducersCPU time.Duration `json:"producers_cpu"`

	diskBefore              int64
	serverBefore, ownBefore time.Duration // processor time
}

// systems returns all of them, those that sync first.
func systems(binary string) []system {
	sluice := func(name string, synced bool, way sluiceWay, flags ...string) system {
		return system{name, synced, func(ctx context.Context, j job, dir string) (result, error) {
			return runSluice(ctx, j, dir, binary, way, flags)
		}}
	}
	nats := func(name string, synced bool, batched bool) system {
		return system{name, synced, func(ctx context.Context, j job, dir string) (result, error) {
			return runNATS(ctx, j, dir, synced, batched)
		}}
	}
	redis := func(name string, synced bool, policy string) system {
		return system{name, synced, func(ctx context.Context, j job, dir string) (result, error) {
			return runRedis(ctx, j, dir, policy)
		}}
	}
	relaxed := []string{"--set", "log.flush.policy=interval"}
	return []system{
		{"Sluice, the storage layer alone", true, runStorage},
		sluice("Sluice, gRPC, encoded batches", true, encodedBatches),
		sluice("Sluice, gRPC, plain records", true, plainRecords),
		sluice("Sluice, gRPC stream, encoded batches (the Go client's way)", true, streamedBatches),
		nats("NATS JetStream, sync_interval: always", true, false),
		nats("NATS JetStream, sync_interval: always, atomic batches", true, true),
		redis("Redis Streams, appendfsync always", true, "always"),
		sluice("Sluice, gRPC, encoded batches, acks=1, log.flush.policy=interval", false,
			earlyBatches, relaxed...),
		nats("NATS JetStream, default (synced every 2 min)", false, false),
		nats("NATS JetStream, default, atomic batches", false, true),
		redis("Redis Streams, appendfsync everysec (default)", false, "everysec"),
	}
}

// compare lets the systems take turns and prints the tables.
func compare(ctx context.Context, j job, all []system, rounds int, only string) error {
	all = slices.DeleteFunc(all, func(s system) bool { return !strings.Contains(s.name, only) })
	results := make([][]result, len(all))
	for round := range rounds {
		for i, s := range all {
			fmt.Fprintf(os.Stderr, "round %d of %d, %s\n", round+1, rounds, s.name)
			r, err := measured(ctx, j, s)
			if errors.Is(err, exec.ErrNotFound) {
				fmt.Fprintf(os.Stderr, "SKIPPED: %s: %v\n", s.name, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	load, _ := os.ReadFile("/proc/loadavg") // empty where there is none
	fmt.Fprintf(os.Stdout, "%d producers, batches of %d records of %d bytes, %v each, %d rounds; "+
		"%d cores, %s, load average at the end %.14s\n", j.Producers, j.Records, j.RecordBytes,
		j.Lasts, rounds, runtime.NumCPU(), runtime.Version(), load)
	for _, synced := range []bool{true, false} {
		printTable(all, results, synced)
	}
	return nil
}

// measured runs a system in a directory that is removed after it.
func measured(ctx context.Context, j job, s system) (result, error) {
	dir, err := os.MkdirTemp("", "sluice-peers-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	j.System = s.name
	return s.run(ctx, j, dir)
}

// printTable prints the systems that sync, or those that do not. The ratio is that
// to the first of them, by rounds.
func printTable(all []system, results [][]result, synced bool) {
	title := "answered from memory"
	if synced {
		title = "on disk when answered"
	}
	fmt.Fprintf(os.Stdout, "\n| %s | records/s, median (lowest to highest) | to the first "+
		"| p50 of a batch | p99 | CPU a batch, server + producers | bytes on disk per byte "+
		"| RSS |\n"+
		"|---|---|---|---|---|---|---|---|\n", title)
	var first []result
	for i, s := range all {
		if s.synced != synced || len(results[i]) == 0 {
			continue
		}
		if first == nil {
			first = results[i]
		}
		rates := pick(results[i], func(r result) float64 { return r.RecordsPerSecond })
		var ratios []float64
		for round, r := range results[i] {
			ratios = append(ratios, r.RecordsPerSecond/first[round].RecordsPerSecond)
		}
		slices.Sort(ratios)
		last := len(ratios) - 1
		resident := pick(results[i], func(r result) float64 { return float64(r.ResidentBytes) })
		millis := func(of func(r result) time.Duration) float64 {
			return middle(pick(results[i], func(r result) float64 { return of(r).Seconds() * 1e3 }))
		}
		fmt.Fprintf(os.Stdout, "| %s | %.0f (%.0f to %.0f) | %.2f (%.2f to %.2f) | %.1f ms "+
			"| %.1f ms | %.0f + %.0f µs | %.2f | %.0f MB |\n", s.name, middle(rates), rates[0],
			rates[last],
			middle(ratios), ratios[0], ratios[last],
			millis(func(r result) time.Duration { return r.P50 }),
			millis(func(r result) time.Duration { return r.P99 }),
			1e3*millis(func(r result) time.Duration { return r.ServerCPU }),
			1e3*millis(func(r result) time.Duration { return r.ProducersCPU }),
			middle(pick(results[i], func(r result) float64 { return r.DiskPerByte })),
			middle(resident)/1e6)
	}
}

// pick returns a number of each result, in order of size.
func pick(results []result, of func(result) float64) []float64 {
	var numbers []float64
	for _, r := range results {
		numbers = append(numbers, of(r))
	}
	slices.Sort(numbers)
	return numbers
}

func middle(sorted []float64) float64 { return sorted[len(sorted)/2] }

// runStorage has a process of this binary do the job on the storage layer.
func runStorage(ctx context.Context, j job, dir string) (result, error) {
	work, err := json.Marshal(j)
	if err != nil {
		return result{}, err
	}
	child := exec.CommandContext(ctx, os.Args[0], "storage", filepath.Join(dir, "log"),
		string(work))
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	return r, json.Unmarshal(out, &r)
}
