package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
)

func newBenchCommand() *cobra.Command {
	bench := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast a node writes and reads",
		Long: "Measures how fast a node writes and reads, and how long that takes at most for\n" +
			"given shares of the records. MB is 1,000,000 bytes of record values.",
	}
	conn := addConnection(bench)
	bench.AddCommand(newBenchProduceCommand(conn), newBenchConsumeCommand(conn),
		newBenchE2ECommand(conn))
	return bench
}

// workload is what a benchmark was asked for, and how far it is.
type workload struct {
	conn       *connection
	benchmark  string
	topic      string
	partitions int32
	records    int64
	recordSize int
	throughput int64 // records/s of all clients; 0: no limit
	clients    int
	producer   *producerFlags
	httpURL    string

	bar  *progress
	done atomic.Int64
}

// addLoad gives a benchmark the flags that all have.
func addLoad(c *cobra.Command, conn *connection, records int64) *workload {
	l := &workload{conn: conn, benchmark: c.Name()}
	flags := c.Flags()
	flags.StringVar(&l.topic, "topic", "", "the `topic`")
	flags.Int64Var(&l.records, "records", records, "`number` of records")
	flags.IntVar(&l.clients, "clients", 1, "`number` of clients, each on a connection of its own")
	return l
}

// addWriting gives a benchmark that writes its flags, and makes --topic
// optional.
func (l *workload) addWriting(c *cobra.Command, throughput int64) {
	flags := c.Flags()
	flags.Lookup("topic").Usage = "write to this `topic`, which must exist (default: one of its " +
		"own, deleted in the end)"
	flags.Int32Var(&l.partitions, "partitions", 6, "`number` of partitions of a topic of its own")
	flags.IntVar(&l.recordSize, "record-size", 1024, "size of each value in `bytes`")
	flags.Int64Var(&l.throughput, "throughput", throughput,
		"`records` a second of all clients (0: as fast as possible); latency then counts from "+
			"when a record was due, not from when a slow node let it be sent")
	l.producer = addProducer(c)
}

// check refuses numbers out of range.
func (l *workload) check(recordSizeMin int) error {
	switch {
	case l.records < 1:
		return wrongUsage("--records is %d, want 1 or more", l.records)
	case l.clients < 1 || l.clients > 10_000:
		return wrongUsage("--clients is %d, want 1 to 10000", l.clients)
	case l.throughput < 0:
		return wrongUsage("--throughput is %d, want 0 or more", l.throughput)
	case l.producer != nil && (l.recordSize < recordSizeMin || l.recordSize > lineBytesMax):
		return wrongUsage("--record-size is %d, want %d to %d", l.recordSize, recordSizeMin,
			lineBytesMax)
	}
	return nil
}

// withTopic runs a benchmark that writes to the topic that was named, or to a
// new one.
func (l *workload) withTopic(
	ctx context.Context, client *sluice.Client, do func(context.Context) error,
) error {
	if l.topic != "" {
		if _, err := client.PartitionCount(ctx, l.topic); err != nil {
			return err
		}
		return do(ctx)
	}
	l.topic = fmt.Sprintf("bench-%08x", rand.Uint32())
	_, err := client.CreateTopic(ctx, sluice.NewTopic{Name: l.topic, Partitions: l.partitions})
	if err != nil {
		return err
	}
	err = do(ctx)
	// Ctrl-C must not leave the topic behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return errors.Join(err, client.DeleteTopic(ctx, l.topic))
}

// shares divides the records among the clients.
func (l *workload) shares() []int64 {
	shares := make([]int64, l.clients)
	for i := range shares {
		shares[i] = l.records / int64(l.clients)
		if int64(i) < l.records%int64(l.clients) {
			shares[i]++
		}
	}
	return shares
}

// count takes note of n records that are done.
func (l *workload) count(n int64) {
	l.done.Add(n)
	l.bar.add(n)
}

// pacer says when each record of a client is due.
type pacer struct {
	start    time.Time
	interval time.Duration // 0: at once
	timer    *time.Timer
}

// pacer returns the pacer of one of the clients.
func (l *workload) pacer(start time.Time) *pacer {
	p := &pacer{start: start}
	if l.throughput > 0 {
		p.interval = time.Duration(int64(time.Second) * int64(l.clients) / l.throughput)
	}
	return p
}

// wait returns when record n is due, and when that was: from then on its
// latency counts, even where the caller came late.
func (p *pacer) wait(ctx context.Context, n int64) (due time.Time, err error) {
	now := time.Now()
	if p.interval == 0 {
		return now, nil
	}
	due = p.start.Add(time.Duration(n) * p.interval)
	left := due.Sub(now)
	if left <= 0 {
		return due, nil
	}
	if p.timer == nil {
		p.timer = time.NewTimer(left)
	} else {
		p.timer.Reset(left)
	}
	select {
	case <-p.timer.C:
		return due, nil
	case <-ctx.Done():
		return due, ctx.Err()
	}
}

// payload makes values that compress about as text does, without a cost for
// each: slices of one random text.
type payload struct {
	text []byte
	size int
	next int
}

func newPayload(size int) *payload {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789    "
	p := &payload{text: make([]byte, size+64<<10), size: size}
	random := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range p.text {
		p.text[i] = alphabet[random.IntN(len(alphabet))]
	}
	return p
}

// value returns the next value, which must not be changed.
func (p *payload) value() []byte {
	p.next = (p.next + 4099) % (len(p.text) - p.size)
	return p.text[p.next : p.next+p.size : p.next+p.size]
}

// benchResult is what a benchmark found.
type benchResult struct {
	Benchmark        string      `json:"benchmark"`
	Transport        string      `json:"transport"`
	Topic            string      `json:"topic"`
	Clients          int         `json:"clients"`
	Throughput       int64       `json:"throughput"`
	RecordSize       int64       `json:"record_size"`
	Acks             string      `json:"acks,omitempty"`
	Compression      string      `json:"compression,omitempty"`
	BatchSize        int64       `json:"batch_size,omitempty"`
	LingerMS         float64     `json:"linger_ms,omitempty"`
	Records          int64       `json:"records"`
	Bytes            int64       `json:"bytes"`
	Seconds          float64     `json:"seconds"`
	RecordsPerSecond float64     `json:"records_per_second"`
	MBPerSecond      float64     `json:"mb_per_second"`
	LatencyOf        string      `json:"latency_of"`
	Latency          percentiles `json:"latency_ms"`
}

// percentiles are in milliseconds.
type percentiles struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// milliseconds writes a duration as milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// result sums up records and bytes that took so long.
func (l *workload) result(records, size int64, took time.Duration, of string, h *histogram,
) *benchResult {
	seconds := max(took.Seconds(), 1e-9)
	r := &benchResult{
		Benchmark: l.benchmark, Transport: "grpc", Topic: l.topic, Clients: l.clients,
		Throughput: l.throughput, Records: records, Bytes: size, Seconds: seconds,
		RecordsPerSecond: float64(records) / seconds, MBPerSecond: float64(size) / 1e6 / seconds,
		LatencyOf: of, RecordSize: size / max(1, records),
		Latency: percentiles{
			P50: milliseconds(h.percentile(50)), P95: milliseconds(h.percentile(95)),
			P99: milliseconds(h.percentile(99)), P999: milliseconds(h.percentile(99.9)),
			Max: milliseconds(h.max),
		},
	}
	if l.producer != nil {
		r.Acks, r.Compression = l.producer.acks, l.producer.compression
		r.BatchSize, r.LingerMS = int64(l.producer.batchBytes), milliseconds(l.producer.linger)
	}
	if l.httpURL != "" {
		r.Transport, r.LingerMS = "http", 0
	}
	return r
}

// write writes the result as text or JSON.
func (r *benchResult) write(c *connection, w io.Writer) error {
	if c.json() {
		return writeJSON(w, r)
	}
	fmt.Fprintf(w, "%s: %s records of %s bytes, topic %s, %s over %s%s\n", r.Benchmark,
		humanize.Comma(r.Records), humanize.Comma(r.RecordSize), r.Topic,
		count(r.Clients, "client"), r.Transport, r.how())
	fmt.Fprintf(w, "  %s records/s   %.2f MB/s   %.2f s\n",
		humanize.Comma(int64(r.RecordsPerSecond)), r.MBPerSecond, r.Seconds)
	_, err := fmt.Fprintf(w, "  latency of %s: p50 %v ms   p95 %v ms   p99 %v ms   "+
		"p99.9 %v ms   max %v ms\n", r.LatencyOf, r.Latency.P50, r.Latency.P95, r.Latency.P99,
		r.Latency.P999, r.Latency.Max)
	return err
}

// how says how the records were written, for a benchmark that does.
func (r *benchResult) how() string {
	if r.Acks == "" {
		return ""
	}
	parts := []string{"", "acks " + r.Acks, "compression " + r.Compression}
	if r.Throughput > 0 {
		parts = append(parts, "at "+humanize.Comma(r.Throughput)+" records/s")
	}
	return strings.Join(parts, ", ")
}
