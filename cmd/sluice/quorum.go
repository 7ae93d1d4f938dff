package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// newQuorumCommands returns the commands about the etcd that keeps the metadata.
func newQuorumCommands(conn *connection) []*cobra.Command {
	quorum := &cobra.Command{
		Use:     "quorum",
		Short:   "List the nodes whose etcds keep the metadata",
		Example: "  sluice cluster quorum",
		Args:    cobra.NoArgs,
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
		) error {
			members, err := client.Quorum(ctx)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), members)
			}
			return writeQuorum(c.OutOrStdout(), members)
		}),
	}
	return []*cobra.Command{quorum, newJoinCommand(conn), newLeaveCommand(conn)}
}

func newJoinCommand(conn *connection) *cobra.Command {
	var node int32
	var peer string
	var replace bool
	c := &cobra.Command{
		Use:   "join --node-id N --peer HOST:PORT",
		Short: "Let a new node into the metadata quorum, before its first start",
		Long: "Let the etcd of a new node into the metadata quorum, and say how to start the\n" +
			"node. It catches up and votes by itself. With --replace, a member of the same\n" +
			"node or address is removed before: one whose disk is lost.",
		Example: "  sluice cluster join --node-id 1 --peer 10.0.0.2:2380 --server 10.0.0.1:9092",
		Args:    cobra.NoArgs,
	}
	c.Flags().Int32Var(&node, "node-id", -1, "`number` of the new node")
	c.Flags().StringVar(&peer, "peer", "", "`host:port` of its --etcd-peer-listen")
	c.Flags().BoolVar(&replace, "replace", false, "the node's disk is lost: remove it before")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		if node < 0 || peer == "" {
			return wrongUsage("--node-id and --peer are required")
		}
		members, err := client.JoinQuorum(ctx, node, peer, replace)
		if err != nil {
			return err
		}
		if conn.json() {
			return writeMessages(c.OutOrStdout(), members)
		}
		var cluster []string
		for _, m := range members {
			id := node // the new one has no name before it starts
			if m.BrokerId != nil {
				id = m.GetBrokerId()
			}
			if m.GetStarted() || m.GetPeerAddress() == peer {
				cluster = append(cluster, fmt.Sprintf("%d=%s", id, m.GetPeerAddress()))
			}
		}
		slices.SortFunc(cluster, func(a, b string) int { // by the number before the =
			return cmp.Or(cmp.Compare(strings.Index(a, "="), strings.Index(b, "=")),
				strings.Compare(a, b))
		})
		_, err = fmt.Fprintf(c.OutOrStdout(), "node %d may join; start it with\n\n"+
			"  sluice serve --node-id %d --etcd-peer-listen %s \\\n"+
			"    --etcd-initial-cluster %s\n", node, node, peer, strings.Join(cluster, ","))
		return err
	})
	return c
}

func newLeaveCommand(conn *connection) *cobra.Command {
	var node int32
	c := &cobra.Command{
		Use:   "leave --node-id N",
		Short: "Take a node out of the metadata quorum",
		Long: "Take the etcd of a node out of the metadata quorum; the node stops then. Move\n" +
			"its partitions away before: sluice cluster reassign --leaving N --wait.",
		Example: "  sluice cluster leave --node-id 3",
		Args:    cobra.NoArgs,
	}
	c.Flags().Int32Var(&node, "node-id", -1, "`number` of the node")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
	) error {
		if node < 0 {
			return wrongUsage("--node-id is required")
		}
		if err := client.LeaveQuorum(ctx, node); err != nil {
			return err
		}
		if conn.json() {
			return writeJSON(c.OutOrStdout(), map[string]int32{"left": node})
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "node %d has left the metadata quorum\n", node)
		return err
	})
	return c
}

func writeQuorum(w io.Writer, members []*sluicev1.QuorumMember) error {
	t := newTable(w, "NODE", "PEER", "LEADER", "VOTES", "STARTED")
	yes := func(is bool) string {
		if is {
			return "yes"
		}
		return "no"
	}
	for _, m := range members {
		t.row(optional(m.BrokerId), m.GetPeerAddress(), yes(m.GetLeader()), yes(!m.GetLearner()),
			yes(m.GetStarted()))
	}
	return t.Flush()
}
