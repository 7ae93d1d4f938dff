package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// lineBytesMax bounds a line of input. The broker's limits are lower.
const lineBytesMax = 64 << 20

// producerFlags are the flags that produce and bench share.
type producerFlags struct {
	acks        string
	compression string
	batchBytes  byteCount
	linger      time.Duration
	idempotent  bool
}

// addProducer gives a command the flags of a producer.
func addProducer(c *cobra.Command) *producerFlags {
	p := &producerFlags{acks: "all", compression: "none", batchBytes: 256 << 10}
	flags := c.Flags()
	flags.Var(&choice{&p.acks, []string{"all", "-1", "1", "0"}}, "acks",
		"`all|1|0`: when a record counts as written")
	flags.Var(&choice{&p.compression, []string{"none", "gzip", "snappy", "lz4", "zstd"}},
		"compression", "`none|gzip|snappy|lz4|zstd`")
	flags.Var(&p.batchBytes, "batch-size", "send a batch of a partition at this `size`")
	flags.DurationVar(&p.linger, "linger", 5*time.Millisecond,
		"how long a record waits for others to share its batch")
	flags.BoolVar(&p.idempotent, "idempotent", true,
		"write a record that is sent again once (needs --acks all)")
	return p
}

// options returns what the flags of c say, and others beside.
func (p *producerFlags) options(
	c *cobra.Command, more ...sluice.ProducerOption,
) ([]sluice.ProducerOption, error) {
	acks, err := sluice.ParseAcks(p.acks)
	if err != nil {
		return nil, &usageError{err}
	}
	compression, err := sluice.ParseCompression(p.compression)
	if err != nil {
		return nil, &usageError{err}
	}
	options := []sluice.ProducerOption{
		sluice.WithAcks(acks), sluice.WithCompression(compression),
		sluice.WithBatchBytes(int(p.batchBytes)), sluice.WithLinger(p.linger),
		sluice.WithMaxRequestBytes(lineBytesMax), sluice.WithBufferBytes(2 * lineBytesMax),
	}
	if c.Flags().Changed("idempotent") {
		options = append(options, sluice.WithIdempotence(p.idempotent))
	}
	return append(options, more...), nil
}

func newProduceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Write a record for each line of the input",
		Long: "Writes a record for each line of the standard input, and says how many it wrote\n" +
			"and at what rate. The line end is not part of the record. An empty line is a\n" +
			"record with an empty value; only --null-marker makes one with no value (a\n" +
			"tombstone).\n\n" +
			"--format says what a line is: raw (the value itself), json (checked, then written\n" +
			"as it is), hex or base64 (decoded, as is the key before --key-separator).\n\n" +
			"With --schema or --schema-id a line is a value of that schema in Avro's JSON, and\n" +
			"is written as the serializers of the schema registry write it; --key-schema and\n" +
			"--key-schema-id do the same for keys.\n\n" +
			"Records have no key, and spread over the partitions, unless --key-separator or\n" +
			"--key-field says where the key is. Records of one key go to one partition.",
		Example: "  echo hello | sluice produce greetings\n" +
			"  sluice produce flights --format json --key-field origin < flights.jsonl\n" +
			"  echo 'k:v' | sluice produce profiles --key-separator : -H source=cli\n" +
			"  echo 'k:NULL' | sluice produce profiles --key-separator : --null-marker NULL\n" +
			"  sluice produce flights --schema flight.avsc --registry http://127.0.0.1:8081 " +
			"< flights.jsonl",
		Args: takes("TOPIC"),
	}
	conn := addConnection(c)
	run := producing{
		conn: conn, producer: addProducer(c), schemas: addSchemas(c, conn),
		format: &lineFormat{format: "raw"},
	}
	run.addFlags(c.Flags())
	c.RunE = conn.with(run.run)
	return c
}

// producing is what a run of produce was asked for.
type producing struct {
	conn       *connection
	producer   *producerFlags
	schemas    *schemaFlags
	format     *lineFormat
	headers    []string
	nullMarker string
}

// addFlags declares the flags that say what a line is.
func (p *producing) addFlags(flags *pflag.FlagSet) {
	f := p.format
	flags.Var(&choice{&f.format, []string{"raw", "json", "hex", "base64"}}, "format",
		"`raw|json|hex|base64`: what a line is")
	flags.StringVar(&f.keySeparator, "key-separator", "",
		"the key is what stands before the first `text` of this in a line")
	flags.StringVar(&f.keyField, "key-field", "",
		"with --format json or a schema, the key is the text of this `field` of the object")
	flags.StringVar(&p.nullMarker, "null-marker", "",
		"a key or value that is exactly this `text` is null")
	flags.StringArrayVarP(&p.headers, "header", "H", nil,
		"a header of every record as `name=value`, repeatable")
	flags.Int32Var(&f.partition, "partition", 0, "write to this `partition`, from 0")
}

// run checks what was asked for, and does it.
func (p *producing) run(
	ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
) error {
	p.format.topic = args[0]
	if c.Flags().Changed("null-marker") {
		p.format.nullMarker = &p.nullMarker
	}
	var err error
	if p.format.headers, err = parseHeaders(p.headers); err != nil {
		return err
	}
	if err := p.schemas.check(c, p.format); err != nil {
		return err
	}
	if err := p.format.check(); err != nil {
		return err
	}
	var more []sluice.ProducerOption
	if c.Flags().Changed("partition") {
		more = append(more, sluice.WithPartitioner(sluice.ManualPartitioner))
	}
	options, err := p.producer.options(c, more...)
	if err != nil {
		return err
	}
	// What is missing is told before the first line is typed.
	if _, err := client.PartitionCount(ctx, args[0]); err != nil {
		return err
	}
	if err := p.schemas.prepare(ctx, c, p.format); err != nil {
		return err
	}
	return p.conn.produce(ctx, c, client, p.format, options)
}

// produce writes the input and says how much that was, also where it ends with
// an error.
func (c *connection) produce(
	ctx context.Context, cmd *cobra.Command, client *sluice.Client, format *lineFormat,
	options []sluice.ProducerOption,
) error {
	producer, err := client.NewProducer(options...)
	if err != nil {
		return &usageError{err}
	}
	p := &production{producer: producer, started: time.Now()}
	in := cmd.InOrStdin()
	if isTerminal(in) {
		fmt.Fprintln(cmd.ErrOrStderr(), "One record on each line; Ctrl-D ends.")
	} else {
		p.progress = newProgress(cmd.ErrOrStderr(), "sending", inputBytes(in), "bytes")
	}
	err = p.lines(ctx, in, format)
	err = errors.Join(err, producer.Close())
	p.progress.done()
	return errors.Join(p.report(c, cmd.OutOrStdout()), err, p.failed())
}

// inputBytes returns the size of an input that is a file, or -1.
func inputBytes(in io.Reader) int64 {
	file, ok := in.(*os.File)
	if !ok {
		return -1
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	return info.Size()
}

// production counts what a run of produce has written.
type production struct {
	producer *sluice.Producer
	progress *progress
	started  time.Time

	mu      sync.Mutex
	records int64
	bytes   int64
	lost    int64
	err     error // the first
}

// lines writes each line of the input.
func (p *production) lines(ctx context.Context, in io.Reader, format *lineFormat) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := readLines(ctx, in)
	for {
		line, more := nextLine(ctx, lines)
		if !more {
			break
		}
		if line.err != nil {
			return fmt.Errorf("line %d: %w", line.number, line.err)
		}
		record, err := format.record(line.text)
		if err != nil {
			return fmt.Errorf("line %d: %w", line.number, err)
		}
		size := int64(len(line.text)) + 1
		err = p.producer.Produce(ctx, record, func(r sluice.Record, err error) {
			p.progress.add(size)
			p.told(r, err)
			if err != nil {
				cancel()
			}
		})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("line %d: %w", line.number, err)
		}
	}
	if p.failed() == nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}

// told counts what became of a record.
func (p *production) told(r sluice.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.lost++; p.err == nil {
			p.err = err
		}
		return
	}
	p.records++
	p.bytes += int64(len(r.Key) + len(r.Value))
}

// failed returns the error of the records that were not written.
func (p *production) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s not written: %w", count(p.lost, "record"), p.err)
}

// report says how much was written.
func (p *production) report(c *connection, w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	seconds := max(time.Since(p.started).Seconds(), 1e-9)
	perSecond, mbPerSecond := float64(p.records)/seconds, float64(p.bytes)/1e6/seconds
	if c.json() {
		return writeJSON(w, map[string]any{
			"records": p.records, "bytes": p.bytes, "seconds": seconds,
			"records_per_second": perSecond, "mb_per_second": mbPerSecond,
		})
	}
	_, err := fmt.Fprintf(w, "sent %s (%s) in %.2f s: %.0f records/s, %.2f MB/s\n",
		count(p.records, "record"), humanize.Bytes(uint64(p.bytes)), seconds, perSecond,
		mbPerSecond)
	return err
}

// inputLine is a line without its end, or why there is no more.
type inputLine struct {
	number int
	text   []byte
	err    error
}

// readLines reads lines until the input or ctx ends. Reading a terminal cannot
// be cancelled: its goroutine may stay until the next line.
func readLines(ctx context.Context, in io.Reader) <-chan inputLine {
	lines := make(chan inputLine, 256)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 0, 64<<10), lineBytesMax)
		scanner.Split(splitLines)
		number := 0
		send := func(line inputLine) bool {
			select {
			case lines <- line:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for scanner.Scan() {
			number++
			if !send(inputLine{number: number, text: bytes.Clone(scanner.Bytes())}) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				err = fmt.Errorf("longer than %d bytes", lineBytesMax)
			}
			send(inputLine{number: number + 1, err: err})
		}
	}()
	return lines
}

// nextLine waits for a line, false where the input or ctx has ended.
func nextLine(ctx context.Context, lines <-chan inputLine) (line inputLine, more bool) {
	select {
	case line, more = <-lines:
		return line, more
	case <-ctx.Done():
		return inputLine{}, false
	}
}

// splitLines is bufio.ScanLines, but leaves a carriage return in the line.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
