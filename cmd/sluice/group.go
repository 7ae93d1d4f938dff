package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func newGroupCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "group", Short: "Show consumer groups, move their offsets, and delete them",
	}
	conn := addConnection(group)
	group.AddCommand(
		newGroupListCommand(conn), newGroupDescribeCommand(conn), newGroupDeleteCommand(conn),
		newGroupSeekCommand(conn), newGroupDeleteOffsetsCommand(conn),
	)
	return group
}

func newGroupListCommand(conn *connection) *cobra.Command {
	var names []string
	c := &cobra.Command{
		Use:     "list",
		Short:   "List groups by id",
		Example: "  sluice group list\n  sluice group list --state stable,empty",
		Args:    cobra.NoArgs,
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
		) error {
			states, err := parseGroupStates(names)
			if err != nil {
				return err
			}
			groups, err := client.Groups(ctx, states...)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), groups)
			}
			t := newTable(c.OutOrStdout(), "GROUP", "STATE", "COORDINATOR", "MEMBERS", "OFFSETS")
			for _, g := range groups {
				t.row(g.GetGroup(), groupState(g), g.GetCoordinatorId(), g.GetMemberCount(),
					g.GetOffsetCount())
			}
			return t.Flush()
		}),
	}
	c.Flags().StringSliceVar(&names, "state", nil,
		"only groups in these `states`: empty, assigning, reconciling, stable (default all)")
	return c
}

const groupStatePrefix = "GROUP_STATE_"

// groupState writes the state as Kafka's tool does in capitals: EMPTY.
func groupState(g *sluicev1.Group) string {
	return strings.TrimPrefix(g.GetState().String(), groupStatePrefix)
}

// parseGroupStates reads states in any case.
func parseGroupStates(names []string) ([]sluicev1.GroupState, error) {
	var states []sluicev1.GroupState
	for _, name := range names {
		state := sluicev1.GroupState_value[groupStatePrefix+strings.ToUpper(name)]
		if state == 0 {
			return nil, wrongUsage(
				"--state is %q, want empty, assigning, reconciling or stable", name)
		}
		states = append(states, sluicev1.GroupState(state))
	}
	return states, nil
}

func newGroupDescribeCommand(conn *connection) *cobra.Command {
	members := false
	c := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a group's offsets, how far they are from the end, and its members",
		Long: "Shows for each partition that a group reads or has stored an offset of how far\n" +
			"it is, what is left to the end (LAG), and who reads it; or, with --members, the\n" +
			"members with what each owns.",
		Example: "  sluice group describe billing\n  sluice group describe billing --members",
		Args:    takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			described, err := client.DescribeGroup(ctx, args[0])
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessage(c.OutOrStdout(), described)
			}
			return writeGroup(c.OutOrStdout(), described, members)
		}),
	}
	c.Flags().BoolVar(&members, "members", false, "show the members instead of the partitions")
	return c
}

// writeGroup writes a group as text.
func writeGroup(w io.Writer, d *sluicev1.DescribeGroupResponse, members bool) error {
	g := d.GetGroup()
	fmt.Fprintf(w, "group %s is %s, coordinated by broker %d", g.GetGroup(), groupState(g),
		g.GetCoordinatorId())
	if n := g.GetMemberCount(); n > 0 {
		fmt.Fprintf(w, ", with %d members (%s, %s, epoch %d)", n, g.GetAssignor(),
			protocolName(g.GetRebalanceProtocol()), g.GetGroupEpoch())
	}
	fmt.Fprint(w, "\n\n")
	if members {
		return writeMembers(w, d.GetMembers())
	}
	t := newTable(w, "TOPIC", "PARTITION", "OFFSET", "END", "LAG", "MEMBER", "CLIENT", "HOST",
		"METADATA")
	for _, p := range d.GetPartitions() {
		t.row(p.GetTopic(), p.GetPartition(), optional(p.CommittedOffset),
			optional(p.LogEndOffset), optional(p.Lag), memberName(p.GetMemberId(),
				p.GetInstanceId()), p.GetClientId(), p.GetClientHost(), p.GetMetadata())
	}
	return t.Flush()
}

func writeMembers(w io.Writer, members []*sluicev1.GroupMember) error {
	t := newTable(w, "MEMBER", "CLIENT", "HOST", "STATE", "EPOCH", "COUNT", "ASSIGNMENT")
	for _, m := range members {
		count := 0
		var topics []string
		for _, p := range m.GetAssignment().GetTopics() {
			count += len(p.GetPartitions())
			topics = append(topics, p.GetTopic()+":"+ids(p.GetPartitions()))
		}
		t.row(memberName(m.GetMemberId(), m.GetInstanceId()), m.GetClientId(),
			m.GetClientHost(), strings.TrimPrefix(m.GetState().String(), "MEMBER_STATE_"),
			m.GetMemberEpoch(), count, strings.Join(topics, " "))
	}
	return t.Flush()
}

// memberName names a member by its instance, where it has one.
func memberName(id, instance string) string {
	if instance != "" {
		return instance
	}
	return id
}

func protocolName(p sluicev1.RebalanceProtocol) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "REBALANCE_PROTOCOL_"))
}

func newGroupDeleteCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME...",
		Short:   "Delete groups without members, and their offsets",
		Example: "  sluice group delete billing",
		Args:    takesSome("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			for _, name := range args {
				if err := client.DeleteGroup(ctx, name); err != nil {
					return err
				}
				if conn.json() {
					deleted := map[string]string{"deleted": name}
					if err := writeJSON(c.OutOrStdout(), deleted); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(c.OutOrStdout(), "deleted group %s\n", name)
			}
			return nil
		}),
	}
}

func newGroupSeekCommand(conn *connection) *cobra.Command {
	var to string
	var topics []string
	dryRun := false
	c := &cobra.Command{
		Use:   "seek NAME",
		Short: "Move the offsets of a group without members",
		Long: "Moves the offsets of a group that has no members, and shows what was and what is\n" +
			"stored. --to takes\n" +
			"  earliest, latest     the first record, the next one to be written\n" +
			"  42                   an offset\n" +
			"  +10, -10             so many offsets on, or back, from what is stored\n" +
			"  @2026-01-01T00:00:00Z, @1767225600000, @-1h\n" +
			"                       the first record of that time or later\n" +
			"  current              what is stored, brought back to what the log holds\n\n" +
			"An offset that the log does not hold is moved to the nearest that it does.",
		Example: "  sluice group seek billing --to earliest\n" +
			"  sluice group seek billing --to @-1h --topic flights --dry-run\n" +
			"  sluice group seek billing --to -10 --topic flights:0,3",
		Args: takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			reset, err := parseReset(to)
			if err != nil {
				return err
			}
			partitions, err := parseTopicPartitions(topics)
			if err != nil {
				return err
			}
			results, err := client.ResetGroup(ctx, args[0], reset, dryRun, partitions...)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), results)
			}
			return writeResets(c.OutOrStdout(), results, dryRun)
		}),
	}
	flags := c.Flags()
	flags.StringVar(&to, "to", "", "where to: `earliest|latest|current|OFFSET|+N|-N|@TIME`")
	flags.StringArrayVar(&topics, "topic", nil,
		"only `TOPIC[:PARTITION,...]`, repeated (default all that the group has stored)")
	flags.BoolVar(&dryRun, "dry-run", false, "store nothing, only show what would be")
	if err := c.MarkFlagRequired("to"); err != nil {
		panic(err)
	}
	return c
}

// writeResets writes what became of the offsets, and fails if some were not moved.
func writeResets(w io.Writer, results []*sluicev1.ResetResult, dryRun bool) error {
	t := newTable(w, "TOPIC", "PARTITION", "OLD", "NEW", "ERROR")
	failed := 0
	for _, r := range results {
		if r.GetError() != nil {
			failed++
		}
		t.row(r.GetTopic(), r.GetPartition(), optional(r.PreviousOffset), optional(r.Offset),
			r.GetError().GetMessage())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if dryRun {
		fmt.Fprintln(w, "nothing was stored: this was a dry run")
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d offsets were not moved", failed, len(results))
	}
	return nil
}

func newGroupDeleteOffsetsCommand(conn *connection) *cobra.Command {
	var topics []string
	c := &cobra.Command{
		Use:   "delete-offsets NAME",
		Short: "Delete the offsets that a group has stored of topics",
		Example: "  sluice group delete-offsets billing --topic flights\n" +
			"  sluice group delete-offsets billing --topic flights:0,3",
		Args: takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			partitions, err := parseTopicPartitions(topics)
			if err != nil {
				return err
			}
			deleted, err := client.DeleteGroupOffsets(ctx, args[0], partitions...)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), deleted)
			}
			t := newTable(c.OutOrStdout(), "TOPIC", "PARTITION", "DELETED")
			for _, o := range deleted {
				t.row(o.GetTopic(), o.GetPartition(), o.GetOffset())
			}
			return t.Flush()
		}),
	}
	c.Flags().StringArrayVar(&topics, "topic", nil, "`TOPIC[:PARTITION,...]`, repeated")
	if err := c.MarkFlagRequired("topic"); err != nil {
		panic(err)
	}
	return c
}

// parseTopicPartitions reads TOPIC and TOPIC:0,3. Topic names have no colon.
func parseTopicPartitions(texts []string) ([]sluice.TopicPartition, error) {
	var all []sluice.TopicPartition
	for _, text := range texts {
		topic, list, some := strings.Cut(text, ":")
		if !some {
			all = append(all, sluice.TopicPartition{Topic: topic, Partition: -1})
			continue
		}
		for number := range strings.SplitSeq(list, ",") {
			partition, err := strconv.ParseInt(number, 10, 32)
			if err != nil || partition < 0 {
				return nil, wrongUsage("--topic is %q, want TOPIC or TOPIC:PARTITION,... with "+
					"partitions from 0", text)
			}
			all = append(all, sluice.TopicPartition{Topic: topic, Partition: int32(partition)})
		}
	}
	return slices.Compact(all), nil
}

// parseReset reads where to move the offsets of a group.
func parseReset(text string) (sluice.GroupReset, error) {
	if text == "current" {
		return sluice.ResetIntoRange(), nil
	}
	if strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") {
		if by, err := strconv.ParseInt(text, 10, 64); err == nil && by != 0 {
			return sluice.ResetBy(by), nil
		}
	} else if to, err := parseFrom(text, time.Now()); err == nil {
		return sluice.ResetTo(to), nil
	}
	return sluice.GroupReset{}, wrongUsage("--to is %q, want earliest, latest, current, an "+
		"offset, +N or -N, or @TIME as RFC 3339 (@2026-01-01T00:00:00Z), milliseconds "+
		"(@1767225600000) or a time ago (@-1h)", text)
}
