package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	verify   bool
	throttle byteCount // bytes a second; 0: none
}

// newReassignCommand returns the command that moves partitions.
func newReassignCommand(conn *connection) *cobra.Command {
	var f reassignFlags
	c := &cobra.Command{
		Use:   "reassign [TOPIC [PARTITION…]]",
		Short: "Move partitions to other brokers, list the moves, or cancel them",
		Long: "Move partitions to other brokers. Without arguments, list the moves that are\n" +
			"under way. A move ends by itself when the new replicas are in sync; clients\n" +
			"notice nothing but a change of leader.\n\n" +
			"--throttle bounds what each broker sends to new replicas, by its setting\n" +
			throttleSetting + "; alone, it changes that of the moves under\n" +
			"way. With --wait the setting gets back what it was when the moves have ended;\n" +
			"otherwise --verify takes it away once nothing moves, and so does --cancel.",
		Example: "  sluice cluster reassign\n" +
			"  sluice cluster reassign flights 0 --replicas 1,2,3 --throttle 50MB --wait\n" +
			"  sluice cluster reassign --throttle 100MB\n" +
			"  sluice cluster reassign --verify\n" +
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
	flags.Var(&f.throttle, "throttle",
		"`bytes` a second that a broker sends to new replicas at most, such as 50MB")
	flags.BoolVar(&f.verify, "verify", false,
		"list the moves under way; if there are none, end the throttle")
	c.RunE = conn.with(func(
		ctx context.Context, c *cobra.Command, client *sluice.Client, args []string,
	) error {
		return f.run(ctx, reassigning{c, conn, client}, args)
	})
	return c
}

// reassigning is what the parts of the command work with.
type reassigning struct {
	command *cobra.Command
	conn    *connection
	client  *sluice.Client
}

// check refuses flags that do not go together.
func (f *reassignFlags) check(args []string) error {
	starts := f.leaving >= 0 || len(f.replicas) > 0
	switch {
	case f.verify && (len(args) > 0 || starts || f.cancel || f.throttle > 0 || f.wait):
		return wrongUsage("--verify goes alone")
	case f.leaving >= 0 && (len(args) > 0 || f.cancel || len(f.replicas) > 0):
		return wrongUsage("--leaving goes without a topic, --replicas and --cancel")
	case f.dryRun && (f.leaving < 0 || f.throttle > 0):
		return wrongUsage("--dry-run is for --leaving, without --throttle")
	case len(args) == 0 && (f.cancel || len(f.replicas) > 0):
		return wrongUsage("--replicas and --cancel need a TOPIC")
	case len(args) > 0 && f.cancel == (len(f.replicas) > 0):
		return wrongUsage("a topic needs either --replicas or --cancel")
	case f.cancel && f.throttle > 0:
		return wrongUsage("--cancel goes without --throttle")
	}
	return nil
}

// run does what the flags say.
func (f *reassignFlags) run(ctx context.Context, r reassigning, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	switch {
	case f.verify:
		return r.verify(ctx)
	case f.leaving < 0 && len(args) == 0:
		return f.list(ctx, r)
	case f.cancel:
		return f.cancelMoves(ctx, r, args)
	}
	start := func() ([]*sluicev1.PartitionReassignment, error) {
		return r.client.MoveAway(ctx, f.leaving, f.dryRun)
	}
	var concerned []int32
	if f.leaving < 0 {
		moves, keepers, err := f.moves(ctx, r.client, args[0], args[1:])
		if err != nil {
			return err
		}
		concerned = keepers
		start = func() ([]*sluicev1.PartitionReassignment, error) {
			return r.client.Reassign(ctx, moves...)
		}
	}
	var limit *throttling
	if f.throttle > 0 {
		var err error
		if limit, err = r.throttle(ctx, concerned, int64(f.throttle)); err != nil {
			return err
		}
	}
	moves, err := start()
	if err != nil {
		return errors.Join(err, limit.restore(ctx, r.client))
	}
	if !f.wait || f.dryRun {
		return r.show(moves)
	}
	if err := r.await(ctx, moves, limit != nil); err != nil {
		return err
	}
	return limit.restore(ctx, r.client)
}

// list shows the moves under way, or changes their throttle.
func (f *reassignFlags) list(ctx context.Context, r reassigning) error {
	moves, err := r.client.Reassignments(ctx)
	if err != nil {
		return err
	}
	if f.throttle > 0 && len(moves) > 0 {
		var concerned []int32
		for _, m := range moves {
			concerned = append(concerned, m.GetReplicaIds()...)
			concerned = append(concerned, m.GetRemovingIds()...)
		}
		if _, err := r.throttle(ctx, concerned, int64(f.throttle)); err != nil {
			return err
		}
	}
	if f.wait {
		return r.await(ctx, moves, f.throttle > 0)
	}
	return r.show(moves)
}

// cancelMoves takes moves back, and the throttle if no others are under way.
func (f *reassignFlags) cancelMoves(ctx context.Context, r reassigning, args []string) error {
	moves, _, err := f.moves(ctx, r.client, args[0], args[1:])
	if err != nil {
		return err
	}
	if len(moves) > 0 {
		if _, err := r.client.Reassign(ctx, moves...); err != nil {
			return err
		}
	}
	left, err := r.client.Reassignments(ctx)
	if err != nil {
		return err
	}
	if len(left) == 0 {
		if _, err := r.unthrottle(ctx); err != nil {
			return err
		}
	}
	if r.conn.json() {
		return writeJSON(r.command.OutOrStdout(), map[string]int{"cancelled": len(moves)})
	}
	_, err = fmt.Fprintf(r.command.OutOrStdout(), "cancelled the move of %s\n",
		count(len(moves), "partition"))
	return err
}

// moves lists what to ask for, and the brokers that have, or get, a part in it.
func (f *reassignFlags) moves(
	ctx context.Context, client *sluice.Client, topic string, partitions []string,
) ([]sluice.Reassignment, []int32, error) {
	var replicas []int32
	for _, text := range f.replicas {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if err != nil || n < 0 {
			return nil, nil, wrongUsage("--replicas: %q is no broker id", text)
		}
		replicas = append(replicas, int32(n))
	}
	var chosen []int32
	for _, text := range partitions {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return nil, nil, wrongUsage("%q is no partition", text)
		}
		chosen = append(chosen, int32(n))
	}
	described, err := client.Topic(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	concerned := slices.Clone(replicas)
	var moves []sluice.Reassignment
	for _, p := range described.GetPartitions() {
		named := slices.Contains(chosen, p.GetPartition())
		moving := len(p.GetAddingIds())+len(p.GetRemovingIds()) > 0
		if named || len(chosen) == 0 && (moving || !f.cancel) {
			moves = append(moves, sluice.Reassignment{
				Topic: topic, Partition: p.GetPartition(), Replicas: replicas,
			})
			concerned = append(concerned, p.GetReplicaIds()...)
		}
	}
	if len(chosen) > 0 && len(moves) < len(chosen) {
		return nil, nil, fmt.Errorf("topic %s has %d partitions, counted from 0", topic,
			len(described.GetPartitions()))
	}
	return moves, concerned, nil
}
