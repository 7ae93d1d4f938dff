package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func newTopicCommand() *cobra.Command {
	topic := &cobra.Command{Use: "topic", Short: "Create, describe, change and delete topics"}
	conn := addConnection(topic)
	topic.AddCommand(
		newTopicCreateCommand(conn), newTopicListCommand(conn), newTopicDescribeCommand(conn),
		newTopicAlterCommand(conn), newTopicDeleteCommand(conn), newTopicTrimCommand(conn),
	)
	return topic
}

func newTopicCreateCommand(conn *connection) *cobra.Command {
	var (
		topic       sluice.NewTopic
		settings    []string
		ifNotExists bool
	)
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Example: "  sluice topic create flights --partitions 6\n" +
			"  sluice topic create profiles --set cleanup.policy=compact",
		Args: takes("NAME"),
	}
	flags := c.Flags()
	flags.Int32Var(&topic.Partitions, "partitions", 0,
		"`number` of partitions (default num.partitions of the node)")
	flags.Int32Var(&topic.ReplicationFactor, "replication-factor", 0,
		"`number` of replicas of each (default default.replication.factor of the node)")
	flags.StringArrayVar(&settings, settingsFlag, nil,
		"a setting of the topic as `key=value`, repeatable; docs/configs.md lists them")
	flags.BoolVar(&ifNotExists, "if-not-exists", false, "do nothing if there is such a topic")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		topic.Name = args[0]
		topic.Configs = map[string]string{}
		if err := addSettings(topic.Configs, settings); err != nil {
			return wrongUsage("--set: %w", err)
		}
		created, err := client.CreateTopic(ctx, topic)
		if ifNotExists && errors.Is(err, sluice.ErrTopicAlreadyExists) {
			created, err = client.Topic(ctx, topic.Name)
		}
		if err != nil {
			return err
		}
		if conn.json() {
			return writeMessage(c.OutOrStdout(), created)
		}
		fmt.Fprintf(c.OutOrStdout(), "topic %s has %s, replication factor %d\n",
			created.GetTopic(), count(created.GetPartitionCount(), "partition"),
			created.GetReplicationFactor())
		return nil
	})
	return c
}

// count writes a number of things: 1 partition, 6 partitions.
func count[N int | int32 | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprint(n) + " " + thing + "s"
}

func newTopicListCommand(conn *connection) *cobra.Command {
	var internal bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List topics by name",
		Example: "  sluice topic list\n  sluice topic list --output json | jq -r '.[].topic'",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&internal, "internal", false, "list internal topics too")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		topics, err := client.Topics(ctx, internal)
		if err != nil {
			return err
		}
		if conn.json() {
			return writeMessages(c.OutOrStdout(), topics)
		}
		t := newTable(c.OutOrStdout(), "TOPIC", "PARTITIONS", "REPLICATION-FACTOR")
		for _, topic := range topics {
			t.row(topic.GetTopic(), topic.GetPartitionCount(), topic.GetReplicationFactor())
		}
		return t.Flush()
	})
	return c
}

// partitionOffsets says which records a partition holds.
type partitionOffsets struct {
	Partition      int32 `json:"partition"`
	LogStartOffset int64 `json:"log_start_offset,string"`
	HighWatermark  int64 `json:"high_watermark,string"`
}

func newTopicDescribeCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "describe NAME",
		Short:   "Show a topic, its partitions and which offsets they hold",
		Example: "  sluice topic describe flights",
		Args:    takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			topic, err := client.Topic(ctx, args[0])
			if err != nil {
				return err
			}
			offsets, err := offsetsOf(ctx, client, topic)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeTopicJSON(c.OutOrStdout(), topic, offsets)
			}
			return writeTopic(c.OutOrStdout(), topic, offsets)
		}),
	}
}

// offsetsOf asks for the first and the next offset of each partition.
func offsetsOf(
	ctx context.Context, client *sluice.Client, topic *sluicev1.Topic,
) ([]partitionOffsets, error) {
	offsets := make([]partitionOffsets, len(topic.GetPartitions()))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, p := range topic.GetPartitions() {
		group.Go(func() error {
			first, err := client.Offset(ctx, topic.GetTopic(), p.GetPartition(),
				sluice.Beginning())
			if err != nil {
				return err
			}
			end, err := client.Offset(ctx, topic.GetTopic(), p.GetPartition(), sluice.End())
			offsets[i] = partitionOffsets{p.GetPartition(), first, end}
			return err
		})
	}
	return offsets, group.Wait()
}

func writeTopic(w io.Writer, topic *sluicev1.Topic, offsets []partitionOffsets) error {
	facts := newTable(w)
	facts.row("topic", topic.GetTopic())
	facts.row("id", topic.GetTopicId())
	facts.row("partitions", topic.GetPartitionCount())
	facts.row("replication factor", topic.GetReplicationFactor())
	facts.row("created", topic.GetCreateTime().AsTime().Format(time.RFC3339))
	for _, name := range slices.Sorted(maps.Keys(topic.GetConfigs())) {
		facts.row("setting", name+"="+topic.GetConfigs()[name])
	}
	if err := facts.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t := newTable(w, "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END")
	for i, p := range topic.GetPartitions() {
		t.row(p.GetPartition(), optional(p.LeaderId), p.GetLeaderEpoch(), ids(p.GetReplicaIds()),
			ids(p.GetIsrIds()), offsets[i].LogStartOffset, offsets[i].HighWatermark)
	}
	return t.Flush()
}

// writeTopicJSON writes the topic as the API does, with `offsets` beside.
func writeTopicJSON(w io.Writer, topic *sluicev1.Topic, offsets []partitionOffsets) error {
	raw, err := rawMessage(topic)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	var known map[string]json.RawMessage
	if err := json.Unmarshal(raw, &known); err != nil {
		return err
	}
	for name, value := range known {
		fields[name] = value
	}
	fields["offsets"] = offsets
	return writeJSON(w, fields)
}

func newTopicAlterCommand(conn *connection) *cobra.Command {
	var partitions int32
	c := &cobra.Command{
		Use:   "alter NAME --partitions N",
		Short: "Raise the number of partitions",
		Long: "Raises the number of partitions to N. Records with keys may go to other\n" +
			"partitions from then on. 'sluice config set --topic NAME' changes settings.",
		Example: "  sluice topic alter flights --partitions 12",
		Args:    takes("NAME"),
	}
	c.Flags().Int32Var(&partitions, "partitions", 0, "new `number` of partitions")
	must(c.MarkFlagRequired("partitions"))
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		topic, err := client.AddPartitions(ctx, args[0], partitions)
		if err != nil {
			return err
		}
		if conn.json() {
			return writeMessage(c.OutOrStdout(), topic)
		}
		fmt.Fprintf(c.OutOrStdout(), "topic %s has %s\n", topic.GetTopic(),
			count(topic.GetPartitionCount(), "partition"))
		return nil
	})
	return c
}

// must panics: a flag that is named was not defined.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newTopicDeleteCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a topic and all its records",
		Example: "  sluice topic delete flights",
		Args:    takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			if err := client.DeleteTopic(ctx, args[0]); err != nil {
				return err
			}
			if conn.json() {
				return writeJSON(c.OutOrStdout(), map[string]string{"deleted": args[0]})
			}
			fmt.Fprintf(c.OutOrStdout(), "deleted topic %s\n", args[0])
			return nil
		}),
	}
}

func newTopicTrimCommand(conn *connection) *cobra.Command {
	var before []string
	c := &cobra.Command{
		Use:   "trim NAME --before-offset P:O",
		Short: "Delete the records before given offsets",
		Example: "  sluice topic trim flights --before-offset 0:1000 --before-offset 1:2000\n" +
			"  sluice topic trim flights --before-offset 0:end",
		Args: takes("NAME"),
	}
	c.Flags().StringArrayVar(&before, "before-offset", nil,
		"`P:O`: partition P keeps offset O and what follows; O may be end; repeatable")
	must(c.MarkFlagRequired("before-offset"))
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		var offsets []*sluicev1.TrimOffset
		for _, text := range before {
			offset, err := parseTrimOffset(text)
			if err != nil {
				return err
			}
			offsets = append(offsets, offset)
		}
		results, err := client.Trim(ctx, args[0], offsets)
		if err != nil {
			return err
		}
		if conn.json() {
			return writeMessages(c.OutOrStdout(), results)
		}
		t := newTable(c.OutOrStdout(), "PARTITION", "START")
		for _, result := range results {
			t.row(result.GetPartition(), result.GetLogStartOffset())
		}
		return t.Flush()
	})
	return c
}

// parseTrimOffset reads P:O.
func parseTrimOffset(text string) (*sluicev1.TrimOffset, error) {
	wrong := wrongUsage("--before-offset is %q, want PARTITION:OFFSET, such as 0:1000 or 0:end",
		text)
	left, right, ok := strings.Cut(text, ":")
	partition, err := strconv.ParseInt(left, 10, 32)
	if !ok || err != nil || partition < 0 {
		return nil, wrong
	}
	trim := &sluicev1.TrimOffset{Partition: int32(partition)}
	if right == "end" {
		return trim, nil
	}
	offset, err := strconv.ParseInt(right, 10, 64)
	if err != nil || offset < 0 {
		return nil, wrong
	}
	trim.BeforeOffset = &offset
	return trim, nil
}
