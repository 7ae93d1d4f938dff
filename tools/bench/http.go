package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// httpTopic is the topic of the HTTP suite, of one partition.
const (
	httpTopic       = "bench-http"
	httpRecordBytes = 1 << 10
	httpBatch       = 100
)

// load is one row of the HTTP suite: requests sent by some connections at once.
type load struct {
	name        string
	connections int
	requests    int // of all connections together
	records     int // in a request, or about as many in its answer
	request     func(i int) []byte
}

// measured is what one round of a load came to.
type measured struct {
	perSecond             float64 // records
	p50, p99              time.Duration
	cpuMicros, allocs, kB float64 // of the node, a request
}

// benchHTTP measures the HTTP surfaces over loopback and prints a table. Loads whose
// names have only in them are measured on a second binary too, by turns, where there
// is one, and nothing else is.
func benchHTTP(
	ctx context.Context, binary, against, only string, rounds, listeners int,
) error {
	whole := against == "" && only == ""
	if whole {
		if err := benchHandlers(ctx, rounds); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var nodes []*node
	for i, binary := range []string{binary, against} {
		if binary == "" {
			continue
		}
		n, err := startNode(ctx, binary, filepath.Join(dir, strconv.Itoa(i)),
			"--set", "http.max.streams="+strconv.Itoa(listeners+16),
			"--set", "http.max.connections="+strconv.Itoa(listeners+1024))
		if err != nil {
			return err
		}
		defer n.stop()
		if err := n.createTopic(ctx, httpTopic); err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	if err := runLoads(nodes, rounds, only); err != nil || !whole {
		return err
	}
	return nodes[0].benchFanOut(ctx, rounds, listeners)
}

// runLoads sends the loads to nodes by turns and prints a row for each.
func runLoads(nodes []*node, rounds int, only string) error {
	loads := make([][]load, len(nodes))
	results := make([][][]measured, len(nodes))
	for i, n := range nodes {
		id, err := n.clusterID()
		if err != nil {
			return err
		}
		loads[i] = slices.DeleteFunc(httpLoads(id), func(l load) bool {
			return !strings.Contains(l.name, only)
		})
		results[i] = make([][]measured, len(loads[i]))
	}
	for round := range rounds {
		for at, l := range loads[0] {
			fmt.Fprintf(os.Stderr, "\rround %d of %d, %-40s", round+1, rounds, l.name)
			for turn := range nodes {
				i := (turn + round) % len(nodes)
				m, err := nodes[i].run(loads[i][at])
				if err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
				results[i][at] = append(results[i][at], m)
			}
		}
	}
	fmt.Fprint(os.Stderr, "\r"+strings.Repeat(" ", 70)+"\r")
	fmt.Fprint(os.Stdout, "| over loopback | connections | records/s, median (lowest to "+
		"highest) | p50 | p99 | CPU a request | allocations | kB allocated |\n"+
		"|---|---|---|---|---|---|---|---|\n")
	for at := range loads[0] {
		for i := range nodes {
			l := loads[i][at]
			if i > 0 {
				l.name = "the same, against it"
			}
			l.print(results[i][at])
		}
	}
	return nil
}

// httpLoads returns the rows, for a node of the cluster of an id.
func httpLoads(cluster string) []load {
	value := make([]byte, httpRecordBytes)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	record := `{"value":"` + base64.StdEncoding.EncodeToString(value) + `"}`
	body := func(count int) []byte {
		return []byte(`{"records":[` + strings.Repeat(record+",", count-1) + record + `]}`)
	}
	v3 := `{"value":{"type":"BINARY","data":"` + base64.StdEncoding.EncodeToString(value) + `"}}`
	text := benchJSON(httpRecordBytes)
	jsonV3 := `{"value":{"type":"JSON","data":` + text + `}}`
	pathV3 := "/v3/clusters/" + cluster + "/topics/" + httpTopic + "/records"
	const binaryV2, plain = "application/vnd.kafka.binary.v2+json", "application/json"
	fixed := func(text []byte) func(int) []byte { return func(int) []byte { return text } }
	return []load{
		{"produce v1, batches of 100", 8, 600, httpBatch, fixed(prepare("POST",
			"/v1/topics/"+httpTopic+"/records", plain, body(httpBatch)))},
		{"produce v2, batches of 100", 8, 600, httpBatch, fixed(prepare("POST",
			"/topics/"+httpTopic, binaryV2, body(httpBatch)))},
		{"produce v2, JSON, batches of 100", 8, 600, httpBatch, fixed(prepare("POST",
			"/topics/"+httpTopic, "application/vnd.kafka.json.v2+json", []byte(`{"records":[`+
				strings.Repeat(`{"value":`+text+`},`, httpBatch-1)+`{"value":`+text+`}]}`)))},
		{"produce v1, one record", 64, 20_000, 1, fixed(prepare("POST",
			"/v1/topics/"+httpTopic+"/records", plain, body(1)))},
		{"produce v2, one record", 64, 20_000, 1, fixed(prepare("POST",
			"/topics/"+httpTopic, binaryV2, body(1)))},
		{"produce v3, streams of 100", 8, 600, httpBatch, fixed(prepare("POST", pathV3, plain,
			[]byte(strings.Repeat(v3, httpBatch))))},
		{"produce v3, JSON, streams of 100", 8, 600, httpBatch, fixed(prepare("POST", pathV3,
			plain, []byte(strings.Repeat(jsonV3, httpBatch))))},
		{"produce v3, batches of 10", 8, 2000, 10, fixed(prepare("POST", pathV3+":batch", plain,
			batchV3(v3, 10)))},
		{"produce v3, one record", 64, 20_000, 1, fixed(prepare("POST", pathV3, plain,
			[]byte(v3)))},
		{"fetch v1, 100 records", 8, 1500, httpBatch, func(i int) []byte {
			return prepare("GET", fmt.Sprintf("/v1/topics/%s/partitions/0/records"+
				"?offset=%d&max_records=100", httpTopic, i*httpBatch%50_000), "", nil)
		}},
		{"fetch v1, 1 MiB", 4, 200, 1 << 10, func(i int) []byte {
			return prepare("GET", fmt.Sprintf("/v1/topics/%s/partitions/0/records"+
				"?offset=%d&max_bytes=1048576", httpTopic, i<<10%50_000), "", nil)
		}},
	}
}

// batchV3 makes a body of records:batch of a record.
func batchV3(record string, count int) []byte {
	var entries []string
	for i := range count {
		entries = append(entries, `{"id":"`+strconv.Itoa(i)+`",`+record[1:])
	}
	return []byte(`{"entries":[` + strings.Join(entries, ",") + `]}`)
}

// benchJSON is an object of about as many bytes, as services send them.
func benchJSON(size int) string {
	var fields strings.Builder
	for i := 0; fields.Len() < size; i++ {
		fmt.Fprintf(&fields, `,"field_%d":"some text of the %dth","n%d":%d.25`, i, i, i, i*7919)
	}
	return "{" + fields.String()[1:] + "}"
}

// run sends the requests of a load and measures them.
func (n *node) run(l load) (m measured, err error) {
	before, err := n.usage()
	if err != nil {
		return m, err
	}
	var next atomic.Int64
	times := make([][]time.Duration, l.connections)
	errs := make([]error, l.connections)
	var workers sync.WaitGroup
	begin := time.Now()
	for w := range l.connections {
		workers.Go(func() {
			c, err := dial(n.http)
			if err != nil {
				errs[w] = err
				return
			}
			defer c.close()
			for i := next.Add(1) - 1; i < int64(l.requests); i = next.Add(1) - 1 {
				sent := time.Now()
				if err := c.do(l.request(int(i))); err != nil {
					errs[w] = err
					return
				}
				times[w] = append(times[w], time.Since(sent))
			}
		})
	}
	workers.Wait()
	took := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return m, err
		}
	}
	after, err := n.usage()
	all := slices.Concat(times...)
	slices.Sort(all)
	count := float64(l.requests)
	return measured{
		perSecond: count * float64(l.records) / took.Seconds(),
		p50:       all[len(all)/2], p99: all[len(all)*99/100],
		cpuMicros: (after.cpuSeconds - before.cpuSeconds) * 1e6 / count,
		allocs:    (after.allocations - before.allocations) / count,
		kB:        (after.bytes - before.bytes) / count / 1e3,
	}, err
}

// print writes the row of a load: medians, and the range of the rates.
func (l load) print(rounds []measured) {
	pick := func(of func(measured) float64) (low, middle, high float64) {
		values := make([]float64, len(rounds))
		for i, m := range rounds {
			values[i] = of(m)
		}
		slices.Sort(values)
		return values[0], values[len(values)/2], values[len(values)-1]
	}
	low, middle, high := pick(func(m measured) float64 { return m.perSecond })
	_, p50, _ := pick(func(m measured) float64 { return m.p50.Seconds() * 1e3 })
	_, p99, _ := pick(func(m measured) float64 { return m.p99.Seconds() * 1e3 })
	_, cpu, _ := pick(func(m measured) float64 { return m.cpuMicros })
	_, allocs, _ := pick(func(m measured) float64 { return m.allocs })
	_, kB, _ := pick(func(m measured) float64 { return m.kB })
	fmt.Fprintf(os.Stdout, "| %s | %d | %.0f (%.0f to %.0f) | %.1f ms | %.1f ms | %.0f µs | "+
		"%.0f | %.0f |\n", l.name, l.connections, middle, low, high, p50, p99, cpu, allocs, kB)
}
