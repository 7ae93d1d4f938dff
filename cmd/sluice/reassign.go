package main

import (
	"context"
	"errors"
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

// reassignFlags are those of `sluice cluster reassign`.
type reassignFlags struct {
	replicas []string
	leaving  int32
	cancel   bool
	dryRun   bool
	wait     bool
}

// newReassignCommand returns the command that moves partitions.
func newReassignCommand(conn *connection) *cobra.Command {
	var f reassignFlags
	c := &cobra.Command{
		Use:   "reassign [TOPIC [PARTITION…]]",
		Short: "Move partitions to other brokers, list the moves, or cancel them",
		Long: "Move partitions to other brokers. Without arguments, list the moves that are\n" +
			"under way. A move ends by itself when the new replicas are in sync; clients\n" +
			"notice nothing but a change of leader.",
		Example: "  sluice cluster reassign\n" +
			"  sluice cluster reassign flights 0 --replicas 1,2,3 --wait\n" +
			"  sluice cluster reassign --leaving 3 --dry-run\n" +
			"  sluice cluster reassign --leaving 3 --wait\n" +
			"  sluice cluster reassign flights --cancel",
		Args: cobra.ArbitraryArgs,
	}
	flags := c.Flags()
	flags.StringSliceVar(&f.replicas, "replicas", nil,
		"`brokers` that are to keep the partitions, the preferred leader first")
	flags.Int32Var(&f.leaving, "leaving", -1,
		"move everything away from this `broker`, so that it can leave the cluster")
	flags.BoolVar(&f.cancel, "cancel", false, "cancel the moves of the partitions")
	flags.BoolVar(&f.dryRun, "dry-run", false, "with --leaving, show what would move")
	flags.BoolVar(&f.wait, "wait", false, "wait until the moves have ended")
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		moves, err := f.run(ctx, client, args)
		if err != nil {
			return err
		}
		if f.wait && !f.dryRun {
			return awaitMoves(ctx, c, conn, client, len(moves))
		}
		if conn.json() {
			return writeMessages(c.OutOrStdout(), moves)
		}
		return writeMoves(c.OutOrStdout(), moves)
	})
	return c
}

// run does what the flags say and returns the moves.
func (f *reassignFlags) run(
	ctx context.Context, client *sluice.Client, args []string,
) ([]*sluicev1.PartitionReassignment, error) {
	switch {
	case f.leaving >= 0 && (len(args) > 0 || f.cancel || len(f.replicas) > 0):
		return nil, wrongUsage("--leaving goes without a topic, --replicas and --cancel")
	case f.leaving >= 0:
		return client.MoveAway(ctx, f.leaving, f.dryRun)
	case f.dryRun:
		return nil, wrongUsage("--dry-run is for --leaving")
	case len(args) == 0 && (f.cancel || len(f.replicas) > 0):
		return nil, wrongUsage("--replicas and --cancel need a TOPIC")
	case len(args) == 0:
		return client.Reassignments(ctx)
	case f.cancel == (len(f.replicas) > 0):
		return nil, wrongUsage("a topic needs either --replicas or --cancel")
	}
	moves, err := f.moves(ctx, client, args[0], args[1:])
	if err != nil || len(moves) == 0 {
		return nil, err
	}
	return client.Reassign(ctx, moves...)
}

// moves lists what to ask for.
func (f *reassignFlags) moves(
	ctx context.Context, client *sluice.Client, topic string, partitions []string,
) ([]sluice.Reassignment, error) {
	var replicas []int32
	for _, text := range f.replicas {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if err != nil || n < 0 {
			return nil, wrongUsage("--replicas: %q is no broker id", text)
		}
		replicas = append(replicas, int32(n))
	}
	var chosen []int32
	for _, text := range partitions {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return nil, wrongUsage("%q is no partition", text)
		}
		chosen = append(chosen, int32(n))
	}
	described, err := client.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	var moves []sluice.Reassignment
	for _, p := range described.GetPartitions() {
		named := slices.Contains(chosen, p.GetPartition())
		moving := len(p.GetAddingIds())+len(p.GetRemovingIds()) > 0
		if named || len(chosen) == 0 && (moving || !f.cancel) {
			moves = append(moves, sluice.Reassignment{
				Topic: topic, Partition: p.GetPartition(), Replicas: replicas,
			})
		}
	}
	if len(chosen) > 0 && len(moves) < len(chosen) {
		return nil, fmt.Errorf("topic %s has %d partitions, counted from 0", topic,
			len(described.GetPartitions()))
	}
	return moves, nil
}

// moveInterval is how often a waiting command asks for the moves.
const moveInterval = 500 * time.Millisecond

// awaitMoves waits until no move is under way.
func awaitMoves(
	ctx context.Context, c *cobra.Command, conn *connection, client *sluice.Client, total int,
) error {
	bar := newProgress(c.ErrOrStderr(), "moving", int64(total), "partitions")
	defer bar.done()
	left := total
	for {
		moves, err := client.Reassignments(ctx)
		if err != nil {
			return err
		}
		if len(moves) < left {
			bar.add(int64(left - len(moves)))
			left = len(moves)
		}
		if len(moves) == 0 {
			break
		}
		timer := time.NewTimer(moveInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.New("the moves go on; 'sluice cluster reassign' lists them")
		}
	}
	if conn.json() {
		return writeJSON(c.OutOrStdout(), map[string]int{"moved": total})
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "moved %s\n", count(total, "partition"))
	return err
}

func writeMoves(w io.Writer, moves []*sluicev1.PartitionReassignment) error {
	if len(moves) == 0 {
		_, err := fmt.Fprintln(w, "nothing moves")
		return err
	}
	t := newTable(w, "TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING")
	for _, m := range moves {
		t.row(m.GetTopic(), m.GetPartition(), ids(m.GetReplicaIds()), ids(m.GetAddingIds()),
			ids(m.GetRemovingIds()))
	}
	return t.Flush()
}

// newElectCommand returns the command that chooses leaders.
func newElectCommand(conn *connection) *cobra.Command {
	var unclean bool
	var broker int32
	c := &cobra.Command{
		Use:   "elect-leaders [TOPIC [PARTITION…]]",
		Short: "Give partitions their preferred leaders",
		Long: "Give partitions their preferred leaders, the first of their replicas: those of\n" +
			"the topic, or of all topics. With --unclean, make a broker the leader of one\n" +
			"partition although it may lack acknowledged records, which are then lost for\n" +
			"good; only where no broker is alive that has them all.",
		Example: "  sluice cluster elect-leaders\n" +
			"  sluice cluster elect-leaders flights 0 1\n" +
			"  sluice cluster elect-leaders flights 0 --unclean --broker 2",
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().BoolVar(&unclean, "unclean", false, "accept the loss of acknowledged records")
	c.Flags().Int32Var(&broker, "broker", -1, "with --unclean, the `broker` that is to lead")
	c.RunE = conn.call(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		topic := ""
		var partitions []int32
		for i, arg := range args {
			if i == 0 {
				topic = arg
				continue
			}
			n, err := strconv.ParseInt(arg, 10, 32)
			if err != nil || n < 0 {
				return wrongUsage("%q is no partition", arg)
			}
			partitions = append(partitions, int32(n))
		}
		if unclean != (broker >= 0) || unclean && len(partitions) != 1 {
			return wrongUsage("--unclean takes a TOPIC, one PARTITION and --broker")
		}
		changed := 1
		var err error
		if unclean {
			err = client.ElectUnclean(ctx, topic, partitions[0], broker)
		} else {
			changed, err = client.ElectPreferred(ctx, topic, partitions...)
		}
		if err != nil {
			return err
		}
		if conn.json() {
			return writeJSON(c.OutOrStdout(), map[string]int{"changed_count": changed})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s got another leader\n",
			count(changed, "partition"))
		return err
	})
	return c
}
