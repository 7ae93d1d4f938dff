package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	clusterPartitions  = 12
	clusterRecordBytes = 1 << 10
	clusterRecords     = 200_000 // of a round
	catchUpRecords     = 300_000 // that are written while a node is away
	pacedRate          = 2_000   // records a second of the rounds that measure latency
	pacedRecords       = 8_000
)

// produce runs `sluice bench produce` with acks=all and idempotent producers.
func (t *trio) produce(
	ctx context.Context, topic string, records int, more ...string,
) (result clientResult, err error) {
	args := []string{
		"bench", "produce", "--topic", topic, "--records", strconv.Itoa(records),
		"--record-size", strconv.Itoa(clusterRecordBytes), "--acks", "all", "--clients", "4",
	}
	return result, t.sluice(ctx, &result, append(args, more...)...)
}

// measureRates compares topics of one and of three replicas, in turns.
func measureRates(ctx context.Context, t *trio, rounds int) error {
	factors := []int{1, 3}
	for _, factor := range factors {
		if err := t.createTopic(ctx, fmt.Sprint("rf", factor), clusterPartitions, factor,
			(factor+1)/2); err != nil {
			return err
		}
	}
	rates, p99s := map[int][]float64{}, map[int][]float64{}
	p50, paced := map[int][]float64{}, map[int][]float64{}
	var ratios []float64
	for round := range rounds {
		told("replication factors 1 and 3, round %d of %d", round+1, rounds)
		for _, factor := range factors {
			topic := fmt.Sprint("rf", factor)
			full, err := t.produce(ctx, topic, clusterRecords)
			if err != nil {
				return err
			}
			slow, err := t.produce(ctx, topic, pacedRecords, "--throughput",
				strconv.Itoa(pacedRate))
			if err != nil {
				return err
			}
			rates[factor] = append(rates[factor], full.RecordsPerSecond)
			p99s[factor] = append(p99s[factor], full.Latency.P99)
			p50[factor] = append(p50[factor], slow.Latency.P50)
			paced[factor] = append(paced[factor], slow.Latency.P99)
		}
		ratios = append(ratios, rates[3][round]/rates[1][round])
	}
	head("replicas", "records/s", "MB/s", "p99, ms", "p50 at 2000/s, ms", "p99 at 2000/s, ms")
	for _, factor := range factors {
		var bytes []float64
		for _, rate := range rates[factor] {
			bytes = append(bytes, rate*clusterRecordBytes/1e6)
		}
		show(strconv.Itoa(factor), between("%.0f", rates[factor]), between("%.1f", bytes),
			between("%.0f", p99s[factor]), between("%.1f", p50[factor]),
			between("%.1f", paced[factor]))
	}
	show("3 to 1, of a round", between("%.2f", ratios), "", "", "", "")
	return nil
}

func (t *trio) createTopic(
	ctx context.Context, name string, partitions, replicas, minISR int,
) error {
	return t.sluice(ctx, nil, "topic", "create", name, "--partitions", strconv.Itoa(partitions),
		"--replication-factor", strconv.Itoa(replicas), "--set",
		fmt.Sprint("min.insync.replicas=", minISR))
}

// measureCatchUp kills a node, writes to the others, and starts it again.
func measureCatchUp(ctx context.Context, t *trio, rounds int) error {
	if err := t.createTopic(ctx, "away", clusterPartitions, clusterNodes, 2); err != nil {
		return err
	}
	const bytes = catchUpRecords * clusterRecordBytes / 1e6
	var took, rates []float64
	for round := range rounds {
		told("catching up, round %d of %d", round+1, rounds)
		away := round % clusterNodes
		t.kill(away)
		if _, err := t.produce(ctx, "away", catchUpRecords); err != nil {
			return err
		}
		begun := time.Now()
		if err := t.start(ctx, away); err != nil {
			return err
		}
		ready := time.Now()
		if err := t.awaitInSync(ctx); err != nil {
			return err
		}
		took = append(took, time.Since(begun).Seconds())
		rates = append(rates, bytes/time.Since(ready).Seconds())
	}
	head("away for", "from start to in sync, s", "from ready to in sync, MB/s")
	show(fmt.Sprintf("%.0f MB", bytes), between("%.1f", took), between("%.0f", rates))
	return nil
}
