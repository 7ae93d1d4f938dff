package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func newClusterCommand() *cobra.Command {
	cluster := &cobra.Command{Use: "cluster", Short: "Show the cluster, and move partitions"}
	conn := addConnection(cluster)
	cluster.AddCommand(&cobra.Command{
		Use:     "info",
		Short:   "Show the cluster",
		Example: "  sluice cluster info",
		Args:    cobra.NoArgs,
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
		) error {
			info, err := client.Cluster(ctx)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessage(c.OutOrStdout(), info)
			}
			t := newTable(c.OutOrStdout())
			t.row("cluster", info.GetClusterId())
			t.row("controller", optional(info.ControllerId))
			t.row("brokers", len(info.GetBrokers()))
			t.row("topics", info.GetTopicCount())
			t.row("partitions", info.GetPartitionCount())
			t.row("under-replicated", info.GetUnderReplicatedPartitionCount())
			t.row("without a leader", info.GetLeaderlessPartitionCount())
			t.row("reassigning", info.GetReassigningPartitionCount())
			if n := info.GetRestoringPartitionCount(); n > 0 {
				t.row("restoring", n)
			}
			if nodes := info.GetAwaitedBrokerIds(); len(nodes) > 0 {
				t.row("waits for brokers", ids(nodes))
			}
			t.row("version", info.GetVersion())
			return t.Flush()
		}),
	}, &cobra.Command{
		Use:     "brokers",
		Short:   "List the brokers",
		Example: "  sluice cluster brokers",
		Args:    cobra.NoArgs,
		RunE: conn.call(func(
			ctx context.Context, c *cobra.Command, client *sluice.Client, _ []string,
		) error {
			info, err := client.Cluster(ctx)
			if err != nil {
				return err
			}
			if conn.json() {
				return writeMessages(c.OutOrStdout(), info.GetBrokers())
			}
			return writeBrokers(c.OutOrStdout(), info)
		}),
	})
	cluster.AddCommand(newReassignCommand(conn), newElectCommand(conn))
	cluster.AddCommand(newQuorumCommands(conn)...)
	return cluster
}

// shortName is an enum's value as people write it.
func shortName(name, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(name, prefix))
}

func writeBrokers(w io.Writer, info *sluicev1.Cluster) error {
	t := newTable(w, "BROKER", "STATE", "GRPC", "HTTP", "RACK", "LEADS", "REPLICAS", "CONTROLLER")
	for _, b := range info.GetBrokers() {
		controller := "no"
		if info.ControllerId != nil && info.GetControllerId() == b.GetBrokerId() {
			controller = "yes"
		}
		t.row(b.GetBrokerId(), shortName(b.GetState().String(), "BROKER_STATE_"),
			b.GetGrpcAddress(), b.GetHttpAddress(), b.GetRack(), b.GetLeaderCount(),
			b.GetReplicaCount(), controller)
	}
	return t.Flush()
}
