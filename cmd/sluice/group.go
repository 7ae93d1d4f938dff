package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func newGroupCommand() *cobra.Command {
	group := &cobra.Command{Use: "group", Short: "Show and delete consumer groups"}
	conn := addConnection(group)
	group.AddCommand(
		newGroupListCommand(conn), newGroupDescribeCommand(conn), newGroupDeleteCommand(conn),
	)
	return group
}

func newGroupListCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List groups by id",
		Example: "  sluice group list",
		Args:    cobra.NoArgs,
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
		) error {
			groups, err := client.Groups(ctx)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), groups)
			}
			t := newTable(c.OutOrStdout(), "GROUP", "STATE", "COORDINATOR", "OFFSETS")
			for _, g := range groups {
				t.row(g.GetGroup(), groupState(g), g.GetCoordinatorId(), g.GetOffsetCount())
			}
			return t.Flush()
		}),
	}
}

// groupState writes the state as Kafka's tool does in capitals: EMPTY.
func groupState(g *sluicev1.Group) string {
	return strings.TrimPrefix(g.GetState().String(), "GROUP_STATE_")
}

// groupOffset is how far a group has come in a partition.
type groupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset,string"`
	// The end and what is left to it; absent where the partition is gone.
	HighWatermark *int64 `json:"high_watermark,string"`
	Lag           *int64 `json:"lag,string"`
	Metadata      string `json:"metadata"`
}

func newGroupDescribeCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "describe NAME",
		Short:   "Show a group's offsets, and how far they are from the end",
		Example: "  sluice group describe billing",
		Args:    takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			group, err := client.Group(ctx, args[0])
			if err != nil {
				return err
			}
			committed, err := client.CommittedOffsets(ctx, args[0])
			if err != nil {
				return err
			}
			offsets, err := groupOffsets(ctx, client, committed)
			if err != nil {
				return err
			}
			return conn.writeGroup(c.OutOrStdout(), group, offsets)
		}),
	}
}

// groupOffsets compares committed offsets with the ends of their partitions.
func groupOffsets(
	ctx context.Context, client *sluice.Client, committed []*sluicev1.CommittedOffset,
) ([]groupOffset, error) {
	offsets := make([]groupOffset, len(committed))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i, o := range committed {
		offsets[i] = groupOffset{
			Topic: o.GetTopic(), Partition: o.GetPartition(), Offset: o.GetOffset(),
			Metadata: o.GetMetadata(),
		}
		group.Go(func() error {
			end, err := client.Offset(ctx, o.GetTopic(), o.GetPartition(), sluice.End())
			if errors.Is(err, sluice.ErrUnknownTopicOrPartition) {
				return nil
			}
			lag := max(0, end-o.GetOffset())
			offsets[i].HighWatermark, offsets[i].Lag = &end, &lag
			return err
		})
	}
	return offsets, group.Wait()
}

func (c *connection) writeGroup(
	w io.Writer, group *sluicev1.Group, offsets []groupOffset,
) error {
	if c.json() {
		return writeJSON(w, map[string]any{
			"group": group.GetGroup(), "state": groupState(group),
			"coordinator_id": group.GetCoordinatorId(), "offsets": offsets,
		})
	}
	fmt.Fprintf(w, "group %s is %s, coordinated by broker %d\n\n", group.GetGroup(),
		groupState(group), group.GetCoordinatorId())
	t := newTable(w, "TOPIC", "PARTITION", "OFFSET", "END", "LAG", "METADATA")
	for _, o := range offsets {
		t.row(o.Topic, o.Partition, o.Offset, optional(o.HighWatermark), optional(o.Lag),
			o.Metadata)
	}
	return t.Flush()
}

func newGroupDeleteCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a group without members, and its offsets",
		Example: "  sluice group delete billing",
		Args:    takes("NAME"),
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
		) error {
			if err := client.DeleteGroup(ctx, args[0]); err != nil {
				return err
			}
			if conn.json() {
				return writeJSON(c.OutOrStdout(), map[string]string{"deleted": args[0]})
			}
			fmt.Fprintf(c.OutOrStdout(), "deleted group %s\n", args[0])
			return nil
		}),
	}
}
