package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluicelog/sluice/internal/memlimit"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// newServeCommand returns the command that runs a node.
func newServeCommand() *cobra.Command {
	cfg := &serveConfig{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: "Run a node: the gRPC API, the HTTP API and its documentation, and the Schema\n" +
			"Registry, over a log on disk.\n" +
			"Every flag can also be given in the environment (--data-dir is SLUICE_DATA_DIR)\n" +
			"or in a YAML file (--config) under its own name; flags win over the environment,\n" +
			"the environment over the file.",
		Example: "  sluice serve\n" +
			"  sluice serve --data-dir /var/lib/sluice --grpc-listen 0.0.0.0:9092\n" +
			"  sluice serve --set log.retention.hours=24 --set num.partitions=3",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := load(cmd.Flags(), os.LookupEnv)
			if err != nil {
				return err
			}
			cfg.settings = settings
			log, err := cfg.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return apart(func() error {
				return serve(cmd.Context(), cfg, cmd.OutOrStdout(), log)
			})
		},
	}
	cfg.addFlags(cmd.Flags())
	return cmd
}

// errGaveUp is the end of a node whose etcd gave up in the middle of a call. What
// etcd said is in the log.
var errGaveUp = errors.New("the embedded etcd gave up; its last message in the log says why")

// apart does work in a goroutine of its own and returns its error. Where etcd gives
// up it ends the goroutine that has called it (see server/cluster), with all that
// is deferred. If that were the main one, everything would be closed, and the
// process would stay for ever.
func apart(work func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errGaveUp
		defer func() { done <- err }()
		err = work()
	}()
	return <-done
}

// serve runs a node until ctx ends or a part of it fails. It binds every port
// first, so that one in use is reported before anything is written; then it
// builds from the disk upwards, and stops in reverse.
func serve(ctx context.Context, cfg *serveConfig, out io.Writer, log *slog.Logger) (err error) {
	defer memlimit.Keep(ctx)()
	ports, err := listen(cfg, log)
	if err != nil {
		return err
	}
	defer ports.close()
	broker := newLateBroker("the node is starting")
	front, err := startFront(ctx, cfg, ports, broker, log)
	if err != nil {
		return err
	}
	defer closing(&err, "front", front.close)

	metaConfig, err := cfg.clusterConfig(ports, log)
	if err != nil {
		return err
	}
	var store *storage.Store
	metaConfig.Records = func(
		ctx context.Context, meta *cluster.Cluster,
	) (_ cluster.Verdict, err error) {
		if store, err = storage.Open(ctx, cfg.storageConfig(meta, log)); err != nil {
			return "", err
		}
		return cluster.Verdict(store.Verdict()), nil
	}
	metaConfig.Held = func() []cluster.HeldReplica { return server.Held(store) }
	meta, err := cluster.Start(ctx, metaConfig)
	if err == nil {
		defer closing(&err, "metadata", meta.Close)
	}
	if store != nil {
		defer closing(&err, "log", store.Close)
	}
	if err != nil {
		return err
	}
	node, err := server.New(cfg.serverConfig(broker, log), store, meta)
	if err != nil {
		return err
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer closing(&err, "broker", node.Close)
	defer closing(&err, "front", func() error { return front.drain(node) })
	defer handOver(meta, store, log)
	if err := front.serve(ctx, node, broker, log); err != nil {
		return err
	}
	if err := ports.banner(out, cfg, meta); err != nil {
		return err
	}
	return awaitStop(ctx, front, store, meta, log)
}

// awaitStop returns once the node is asked to stop (nil) or a part of it failed.
func awaitStop(
	ctx context.Context, front *front, store *storage.Store, meta *cluster.Cluster,
	log *slog.Logger,
) error {
	select {
	case <-ctx.Done():
		log.Info("stopping: the calls under way are answered first")
		return nil
	case <-store.Failed():
		return fmt.Errorf("the log failed: %w", store.Err())
	case <-meta.Failed():
		return fmt.Errorf("the metadata failed: %w", meta.Err())
	case <-front.failed():
		return front.group.Err()
	}
}

// handOverTime bounds how long a stopping node waits until others have taken over
// what it leads (controlled shutdown).
const handOverTime = 30 * time.Second

// handOver lets other nodes take over what this one leads, before it stops
// serving. A node whose log or place in the cluster has failed just stops.
func handOver(meta *cluster.Cluster, store *storage.Store, log *slog.Logger) {
	if store.Err() != nil || meta.Err() != nil || meta.Fenced() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()
	if err := meta.Drain(ctx); err != nil {
		log.Warn("stopping before the others have taken over", "error", err)
	}
}

// closing closes a part of the node and keeps its error.
func closing(err *error, part string, closeIt func() error) {
	if failed := closeIt(); failed != nil {
		*err = errors.Join(*err, fmt.Errorf("closing the %s: %w", part, failed))
	}
}
