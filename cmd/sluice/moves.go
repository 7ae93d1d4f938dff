package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// throttleSetting bounds what a broker sends to the replicas that moves add.
const throttleSetting = "leader.replication.throttled.rate"

// throttling is what the throttle of brokers was before; nil where it was left
// alone.
type throttling struct{ previous map[int32]string }

// throttle bounds the moves on brokers, none standing for all, and remembers what
// they had.
func (r reassigning) throttle(
	ctx context.Context, brokers []int32, rate int64,
) (*throttling, error) {
	info, err := r.client.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	t := &throttling{previous: map[int32]string{}}
	for _, b := range info.GetBrokers() {
		if len(brokers) > 0 && !slices.Contains(brokers, b.GetBrokerId()) {
			continue
		}
		own, err := throttleOf(ctx, r.client, b.GetBrokerId())
		if errors.Is(err, fault.ResourceNotFound) {
			continue // it has just gone
		}
		if err == nil {
			t.previous[b.GetBrokerId()] = own
			_, err = r.client.AlterConfigs(ctx, sluice.BrokerConfigs(b.GetBrokerId()),
				map[string]string{throttleSetting: strconv.FormatInt(rate, 10)})
		}
		if err != nil {
			return t, fmt.Errorf("throttling broker %d: %w", b.GetBrokerId(), err)
		}
	}
	return t, nil
}

// throttleOf returns the throttle that a broker was given for itself, or "".
func throttleOf(ctx context.Context, client *sluice.Client, broker int32) (string, error) {
	entries, err := client.Configs(ctx, sluice.BrokerConfigs(broker), throttleSetting)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.GetSource() == sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG {
			return e.GetValue(), nil
		}
	}
	return "", nil
}

// restore gives brokers the throttle that they had.
func (t *throttling) restore(ctx context.Context, client *sluice.Client) error {
	if t == nil {
		return nil
	}
	for _, broker := range slices.Sorted(maps.Keys(t.previous)) {
		set, unset := map[string]string{throttleSetting: t.previous[broker]}, []string(nil)
		if t.previous[broker] == "" {
			set, unset = nil, []string{throttleSetting}
		}
		_, err := client.AlterConfigs(ctx, sluice.BrokerConfigs(broker), set, unset...)
		if err != nil {
			return fmt.Errorf("broker %d keeps its throttle: %w", broker, err)
		}
	}
	return nil
}

// unthrottle takes the throttle away from all brokers that have one of their own,
// and returns those.
func (r reassigning) unthrottle(ctx context.Context) ([]int32, error) {
	info, err := r.client.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	var brokers []int32
	for _, b := range info.GetBrokers() {
		own, err := throttleOf(ctx, r.client, b.GetBrokerId())
		if errors.Is(err, fault.ResourceNotFound) || err == nil && own == "" {
			continue // it has just gone, or has none
		}
		if err != nil {
			return brokers, err
		}
		_, err = r.client.AlterConfigs(ctx, sluice.BrokerConfigs(b.GetBrokerId()), nil,
			throttleSetting)
		if err != nil {
			return brokers, fmt.Errorf("broker %d keeps its throttle: %w", b.GetBrokerId(), err)
		}
		brokers = append(brokers, b.GetBrokerId())
	}
	return brokers, nil
}

// verify lists the moves under way; if there are none, it ends the throttle.
func (r reassigning) verify(ctx context.Context) error {
	moves, err := r.client.Reassignments(ctx)
	if err != nil {
		return err
	}
	if len(moves) > 0 {
		return r.show(moves)
	}
	brokers, err := r.unthrottle(ctx)
	if err != nil {
		return err
	}
	if r.conn.json() {
		return writeJSON(r.command.OutOrStdout(), map[string]any{
			"moving": 0, "unthrottled": append([]int32{}, brokers...),
		})
	}
	out := r.command.OutOrStdout()
	if len(brokers) == 0 {
		_, err = fmt.Fprintln(out, "nothing moves")
		return err
	}
	_, err = fmt.Fprintf(out, "nothing moves; the throttle of brokers %s is taken away\n",
		ids(brokers))
	return err
}

// moveInterval is how often a waiting command asks for the moves.
const moveInterval = 500 * time.Millisecond

// await waits until moves have ended, and shows how far they are.
func (r reassigning) await(
	ctx context.Context, moves []*sluicev1.PartitionReassignment, throttled bool,
) error {
	var bar *progress
	defer func() { bar.done() }()
	var shown, all int64
	for {
		under, err := r.client.Reassignments(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		left, bytes := leftOf(under, moves)
		if bar == nil {
			all = max(bytes, 1)
			bar = newProgress(r.command.ErrOrStderr(), "moving", all, "bytes")
		}
		if done := all - bytes; err == nil && done > shown {
			bar.add(done - shown)
			shown = done
		}
		if err == nil && left == 0 {
			break
		}
		timer := time.NewTimer(moveInterval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return interrupted(throttled)
		}
	}
	if r.conn.json() {
		return writeJSON(r.command.OutOrStdout(), map[string]int{"moved": len(moves)})
	}
	_, err := fmt.Fprintf(r.command.OutOrStdout(), "moved %s\n", count(len(moves), "partition"))
	return err
}

// interrupted says what goes on when nobody waits any more.
func interrupted(throttled bool) error {
	if throttled {
		return errors.New("the moves go on, and stay throttled; 'sluice cluster reassign " +
			"--verify' lists them, and ends the throttle once they have ended")
	}
	return errors.New("the moves go on; 'sluice cluster reassign' lists them")
}

// leftOf counts which of some moves are still under way, and the bytes that they
// have to copy.
func leftOf(under, moves []*sluicev1.PartitionReassignment) (left int, bytes int64) {
	for _, u := range under {
		if slices.ContainsFunc(moves, func(m *sluicev1.PartitionReassignment) bool {
			return m.GetTopic() == u.GetTopic() && m.GetPartition() == u.GetPartition()
		}) {
			left++
			bytes += u.GetRemainingBytes()
		}
	}
	return left, bytes
}

// show lists moves.
func (r reassigning) show(moves []*sluicev1.PartitionReassignment) error {
	if r.conn.json() {
		return writeMessages(r.command.OutOrStdout(), moves)
	}
	if len(moves) == 0 {
		_, err := fmt.Fprintln(r.command.OutOrStdout(), "nothing moves")
		return err
	}
	t := newTable(r.command.OutOrStdout(), "TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING",
		"LEFT")
	for _, m := range moves {
		left := ""
		if m.RemainingBytes != nil {
			left = humanize.IBytes(uint64(m.GetRemainingBytes()))
		}
		t.row(m.GetTopic(), m.GetPartition(), ids(m.GetReplicaIds()), ids(m.GetAddingIds()),
			ids(m.GetRemovingIds()), left)
	}
	return t.Flush()
}
