package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// benchHandlers runs the benchmarks of the gateway's handlers, which have no
// socket and a broker in memory, and prints a row for each.
func benchHandlers(ctx context.Context, rounds int) error {
	command := exec.CommandContext(ctx, "go", "test", "./gateway", "-run", "^$", "-bench",
		"^BenchmarkHandler", "-cpu", "2", "-count", strconv.Itoa(rounds))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	line := regexp.MustCompile(`(?m)^BenchmarkHandler/(\S+)-2\s.*?(\d+) ns/op.* ` +
		`([\d.]+) MB/s\s+([\d.]+) records/s\s+(\d+) B/op\s+(\d+) allocs/op`)
	type run struct{ rate, micros, kB, allocs float64 }
	runs := map[string][]run{}
	var names []string
	for _, match := range line.FindAllStringSubmatch(string(out), -1) {
		var values [5]float64
		for i, at := range []int{2, 4, 5, 6} {
			if values[i], err = strconv.ParseFloat(match[at], 64); err != nil {
				return err
			}
		}
		if runs[match[1]] == nil {
			names = append(names, match[1])
		}
		runs[match[1]] = append(runs[match[1]],
			run{values[1], values[0] / 1e3, values[2] / 1e3, values[3]})
	}
	if len(names) == 0 {
		return fmt.Errorf("no results in %q", out)
	}
	fmt.Fprint(os.Stdout, "| at the handler | records/s, median (lowest to highest) | time a "+
		"request | allocations | kB allocated |\n|---|---|---|---|---|\n")
	for _, name := range names {
		all := runs[name]
		slices.SortFunc(all, func(a, b run) int { return int(a.rate - b.rate) })
		middle := all[len(all)/2]
		fmt.Fprintf(os.Stdout, "| %s | %.0f (%.0f to %.0f) | %.0f µs | %.0f | %.0f |\n",
			strings.ReplaceAll(name, "_", " "), middle.rate, all[0].rate, all[len(all)-1].rate,
			middle.micros, middle.allocs, middle.kB)
	}
	fmt.Fprintln(os.Stdout)
	return nil
}
