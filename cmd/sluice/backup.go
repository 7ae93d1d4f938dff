package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/server/cluster"
)

func newBackupCommand() *cobra.Command {
	backup := &cobra.Command{
		Use:   "backup",
		Short: "Back up and restore the cluster's metadata",
		Long: "Back up and restore the cluster's metadata: topics, replicas, settings. Records\n" +
			"are not in it; their copies are on the other nodes.",
	}
	backup.AddCommand(newBackupCreateCommand(), newBackupRestoreCommand())
	return backup
}

func newBackupCreateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "create FILE",
		Short: "Write the metadata of a running cluster to a file",
		Long: "Write the metadata of a running cluster to a new file: everything that was\n" +
			"acknowledged before. It is checked before it is there.",
		Example: "  sluice backup create metadata.tar\n" +
			"  sluice backup create \"metadata-$(date +%F).tar\" --server 10.0.0.1:9092",
		Args: takes("FILE"),
	}
	conn := addConnection(c)
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		m, err := createBackup(ctx, client, args[0])
		if err != nil {
			return err
		}
		if conn.json() {
			return writeJSON(c.OutOrStdout(), m)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s: cluster %s at revision %d, %s, %s, %s\n",
			args[0], m.ClusterID, m.Revision, count(m.TopicCount, "topic"),
			count(m.PartitionCount, "partition"), humanize.IBytes(uint64(m.SnapshotBytes)))
		return err
	})
	return c
}

// createBackup writes what a node sends to a file.
func createBackup(
	ctx context.Context, client *sluice.Client, path string,
) (m cluster.BackupManifest, err error) {
	info, snapshot, err := client.Backup(ctx)
	if err != nil {
		return m, err
	}
	defer snapshot.Close()
	return cluster.SaveBackup(path, cluster.BackupInfo{
		ClusterID: info.GetClusterId(), Prefix: info.GetPrefix(),
		Revision: info.GetMetadataVersion(), EtcdVersion: info.GetEtcdVersion(),
	}, info.GetVersion(), snapshot)
}

func newBackupRestoreCommand() *cobra.Command {
	cfg := &serveConfig{}
	var output string
	var nodes []string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a new etcd of a backup, on a node that does not run",
		Long: "Make a new etcd of a backup in the data directory of a node that does not run.\n" +
			"It takes the flags that the node is started with (of them, --data-dir, --node-id,\n" +
			"--etcd-prefix and the others of --etcd count), from the command line, the\n" +
			"environment, or --config. Stop all nodes, run it on each with the same file, and\n" +
			"start them. No leader is chosen before all nodes of the backup have said which\n" +
			"records they hold; then whoever has most leads, and nothing that was acknowledged\n" +
			"is lost. Topics that are newer than the backup come back as restored-ID.\n\n" +
			"With --etcd-endpoints, the external etcd has been restored by its own tools, with\n" +
			"bumped revisions; then it is run once, on any node.",
		Example: "  sluice backup restore metadata.tar --config /etc/sluice.yaml\n" +
			"  sluice backup restore metadata.tar --data-dir /var/lib/sluice --node-id 0 \\\n" +
			"    --etcd-peer-listen 10.0.0.1:2380 \\\n" +
			"    --etcd-initial-cluster 0=10.0.0.1:2380,1=10.0.0.2:2380,2=10.0.0.3:2380",
		Args: takes("FILE"),
	}
	cfg.addFlags(c.Flags())
	c.Flags().StringSliceVar(&nodes, "wait-for", nil,
		"`nodes` without which no leader is chosen (default: those of the backup); leave out\n"+
			"one that is lost for good, and name one that is newer; the same on all nodes")
	c.Flags().Var(&choice{&output, []string{"text", "json"}}, "output",
		"`text|json`: how to answer")
	c.RunE = func(c *cobra.Command, args []string) error {
		settings, err := load(c.Flags(), os.LookupEnv)
		if err != nil {
			return err
		}
		cfg.settings = settings
		log, err := cfg.logger(c.ErrOrStderr())
		if err != nil {
			return err
		}
		waitFor, err := nodeIDs(nodes)
		if err != nil {
			return err
		}
		meta, err := cfg.clusterConfig(&ports{}, log)
		if err != nil {
			return err
		}
		m, err := cluster.RestoreBackup(c.Context(), meta, args[0], waitFor)
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(c.OutOrStdout(), m)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "restored node %d in %s: cluster %s at revision %d, "+
			"of %s, %s\n", cfg.nodeID, cfg.dataDir, m.ClusterID, m.Revision,
			m.CreateTime.Format(time.RFC3339), count(m.TopicCount, "topic"))
		return err
	}
	return c
}

// nodeIDs reads a list of nodes.
func nodeIDs(list []string) ([]int32, error) {
	var nodes []int32
	for _, text := range list {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if err != nil || n < 0 {
			return nil, wrongUsage("--wait-for: %q is no node id", text)
		}
		nodes = append(nodes, int32(n))
	}
	return nodes, nil
}
