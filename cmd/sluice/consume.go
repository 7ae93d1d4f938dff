package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// consumption is what a run of consume was asked for.
type consumption struct {
	from       string
	partitions []int32
	count      int64
	format     string
	nullMarker string
	isolation  string
	exitAtEnd  bool
	rack       string
	avro       bool
	registry   *registryFlags

	group      string
	instanceID string
	assignor   string
	pattern    bool
	commit     time.Duration
}

func newConsumeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Print records, and follow",
		Long: "Prints the records of topics and goes on as new ones are written, until Ctrl-C,\n" +
			"--count or --exit-at-end. Records of a partition come in order.\n\n" +
			"With --group it is a member of that consumer group: it reads the partitions that\n" +
			"the group gives it, from where the group has come, and stores how far it comes.\n" +
			"--from then says where to begin where the group has stored nothing.\n\n" +
			"--format is json (an object on each line), or text in which stand\n" +
			"  %t topic   %p partition   %o offset   %k key   %v value   %h headers\n" +
			"  %T timestamp in ms   %d timestamp as RFC 3339   %K %V sizes (-1: null)   %% a %\n" +
			"  %k{hex} %v{base64} encoded   \\n \\t \\r \\0 \\\\ \\xHH characters\n\n" +
			"With --avro or --registry, keys and values that the serializers of the schema\n" +
			"registry wrote are printed as Avro's JSON; in the objects of --format json they\n" +
			"are JSON, too, and no text. Others are printed as they are.",
		Example: "  sluice consume flights\n" +
			"  sluice consume flights --from end --format '%p %o %k %v\\n'\n" +
			"  sluice consume flights --from @-1h --exit-at-end --output json\n" +
			"  sluice consume flights --partition 0 --from 100 --count 10\n" +
			"  sluice consume flights --group billing\n" +
			"  sluice consume 'flights-.*' --pattern --group audit --from beginning\n" +
			"  sluice consume flights --avro --format json",
		Args: takesSome("TOPIC"),
	}
	conn := addConnection(c)
	want := consumption{isolation: "read_uncommitted", registry: addRegistry(c, conn)}
	flags := c.Flags()
	flags.StringVar(&want.from, "from", "beginning",
		"`beginning|end|OFFSET|@TIME`: where to begin in every partition")
	flags.Int32SliceVar(&want.partitions, "partition", nil,
		"only these `partitions`, as 0,1 or repeated; [] is all")
	flags.Int64Var(&want.count, "count", 0, "stop after this `number` of records (0: never)")
	flags.StringVar(&want.format, "format", `%v\n`, "how to print a record")
	flags.StringVar(&want.nullMarker, "null-marker", "null",
		"the `text` to print for a key or value that is null")
	flags.Var(&choice{&want.isolation, []string{"read_uncommitted", "read_committed"}},
		"isolation", "`read_uncommitted|read_committed`: which records of transactions to print")
	flags.BoolVar(&want.exitAtEnd, "exit-at-end", false,
		"stop at the end that the partitions have now")
	flags.StringVar(&want.rack, "rack", "",
		"read from the replicas of brokers in this `rack` where they are in sync (client.rack)")
	flags.StringVar(&want.group, "group", "", "be a member of this consumer `group`")
	flags.StringVar(&want.instanceID, "instance-id", "",
		"with --group, a static member of this `name`: it keeps its partitions while it restarts")
	flags.StringVar(&want.assignor, "assignor", "",
		"with --group, `uniform|range|round-robin|sticky`: how to share partitions out")
	flags.DurationVar(&want.commit, "commit-interval", 5*time.Second,
		"with --group, how often to store how far it has come (0: only at the end)")
	flags.BoolVar(&want.pattern, "pattern", false,
		"with --group, TOPIC is a regular expression (RE2) of whole names")
	flags.BoolVar(&want.avro, "avro", false,
		"print keys and values in the schema registry's format as JSON (--registry implies it)")
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		if conn.json() && !c.Flags().Changed("format") {
			want.format = "json"
		}
		slices.Sort(args)
		slices.Sort(want.partitions)
		want.partitions = slices.Compact(want.partitions)
		want.avro = want.avro || c.Flags().Changed("registry")
		return want.run(ctx, c, client, slices.Compact(args))
	})
	return c
}

// run prints what was asked for.
func (w *consumption) run(
	ctx context.Context, c *cobra.Command, client *sluice.Client, topics []string,
) error {
	format, err := parseRecordFormat(w.format, w.nullMarker)
	if err != nil {
		return err
	}
	if w.avro {
		reader, err := newAvroReader(w.registry, c.ErrOrStderr())
		if err != nil {
			return err
		}
		format = reader.format(ctx, format, w.format == "json")
	}
	from, err := parseFrom(w.from, time.Now())
	if err != nil {
		return err
	}
	if err := w.check(c, topics); err != nil {
		return err
	}
	consumer, err := client.NewConsumer(w.options(from)...)
	if err != nil {
		return err
	}
	err = w.assign(ctx, client, consumer, from, topics)
	if err == nil {
		err = w.print(ctx, consumer, c.OutOrStdout(), format)
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	return errors.Join(err, consumer.Close())
}

// check refuses flags that make no sense together.
func (w *consumption) check(c *cobra.Command, topics []string) error {
	if w.count < 0 {
		return wrongUsage("--count is %d, want 0 or more", w.count)
	}
	if w.group == "" {
		for _, flag := range []string{"instance-id", "assignor", "commit-interval", "pattern"} {
			if c.Flags().Changed(flag) {
				return wrongUsage("--%s needs --group", flag)
			}
		}
		return nil
	}
	if len(w.partitions) > 0 {
		return wrongUsage("--partition and --group exclude each other: the group shares " +
			"the partitions out")
	}
	if _, err := strconv.ParseInt(w.from, 10, 64); err == nil {
		return wrongUsage("--from is %s, want beginning, end or @TIME with --group", w.from)
	}
	if w.commit < 0 {
		return wrongUsage("--commit-interval is %v, want 0 or more", w.commit)
	}
	if w.pattern && len(topics) != 1 {
		return wrongUsage("--pattern takes one TOPIC, not %d", len(topics))
	}
	return nil
}

// options returns what the flags say.
func (w *consumption) options(from sluice.Offset) []sluice.ConsumerOption {
	options := []sluice.ConsumerOption{sluice.WithRack(w.rack)}
	if w.exitAtEnd {
		options = append(options, sluice.WithStopAtEnd())
	}
	if w.isolation == "read_committed" {
		options = append(options, sluice.WithIsolationLevel(sluice.ReadCommitted))
	}
	if w.group == "" {
		return options
	}
	commit := w.commit
	if commit == 0 {
		commit = 10 * 365 * 24 * time.Hour
	}
	options = append(options, sluice.WithGroup(w.group), sluice.WithOffsetReset(from),
		sluice.WithInstanceID(w.instanceID), sluice.WithAssignor(w.assignor),
		sluice.WithAutoCommit(commit), sluice.WithClientID("sluice consume"))
	if w.count > 0 {
		// What is handed out counts as printed, and nothing more may.
		options = append(options, sluice.WithMaxPollRecords(1))
	}
	return options
}

// assign chooses the partitions.
func (w *consumption) assign(
	ctx context.Context, client *sluice.Client, consumer *sluice.Consumer, from sluice.Offset,
	topics []string,
) error {
	switch {
	case w.group != "" && w.pattern:
		return consumer.SubscribePattern(topics[0])
	case w.group != "":
		for _, topic := range topics {
			// A group would wait for it.
			if _, err := client.PartitionCount(ctx, topic); err != nil {
				return err
			}
		}
		return consumer.Subscribe(topics...)
	}
	if len(w.partitions) == 0 {
		return consumer.AssignTopics(ctx, from, topics...)
	}
	var assignments []sluice.Assignment
	for _, topic := range topics {
		for _, partition := range w.partitions {
			if partition < 0 {
				return wrongUsage("--partition is %d, want 0 or more", partition)
			}
			assignments = append(assignments,
				sluice.Assignment{Topic: topic, Partition: partition, From: from})
		}
	}
	return consumer.Assign(ctx, assignments...)
}

// print writes records until there are enough of them, or reading ends.
func (w *consumption) print(
	ctx context.Context, consumer *sluice.Consumer, out io.Writer, format recordFormat,
) error {
	buffered := bufio.NewWriterSize(out, 64<<10)
	var text []byte
	for printed := int64(0); ; {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		if w.count > 0 {
			records = records[:min(int64(len(records)), w.count-printed)]
		}
		for i := range records {
			text = format(text[:0], &records[i])
			if _, err := buffered.Write(text); err != nil {
				return fmt.Errorf("writing records: %w", err)
			}
		}
		if err := buffered.Flush(); err != nil {
			return fmt.Errorf("writing records: %w", err)
		}
		if printed += int64(len(records)); w.count > 0 && printed >= w.count {
			return nil
		}
	}
}
