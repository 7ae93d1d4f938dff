package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
)

// storedBatch is a batch as a node has it on disk: a line of "sluice storage
// dump".
type storedBatch struct {
	Partition   string `json:"partition_id"`
	BaseOffset  int64  `json:"base_offset"`
	LastOffset  int64  `json:"last_offset"`
	LeaderEpoch int32  `json:"leader_epoch"`
	Bytes       int    `json:"bytes"`
	CRC         string `json:"crc32c"`
	Problem     string `json:"problem"`
}

// stored is the batches of a node, by partition.
type stored map[string][]storedBatch

// stored reads what a node, which does not run, has on disk.
func (p *process) stored(ctx context.Context) (stored, error) {
	cmd := exec.CommandContext(ctx, p.binary, "storage", "dump", "--output", "json",
		filepath.Join(p.dir, "data"))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	all, readErr := decodeStored(out)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("dumping node %d: %w: %s", p.id, err, said.String())
	}
	return all, nil
}

func decodeStored(in io.Reader) (stored, error) {
	all := stored{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var b storedBatch
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return nil, err
		}
		all[b.Partition] = append(all[b.Partition], b)
	}
	return all, lines.Err()
}

// kept says how the replicas of a partition compare.
type kept int

const (
	everywhere kept = iota // on all nodes, and the same
	somewhere              // on some nodes, and the same
	compacted              // by each node for itself
)

// differences compares the replicas of each partition, batch by batch (I7). Those
// that are compacted are only read. Same counts the batches that are the same on
// two nodes.
func differences(nodes []stored, how func(partition string) kept) (broken []string, same int) {
	for i, node := range nodes {
		for partition, batches := range node {
			for _, b := range batches {
				if b.Problem != "" {
					broken = append(broken, fmt.Sprintf("node %d, %s at %d: %s", i, partition,
						b.BaseOffset, b.Problem))
				}
			}
			for j, other := range nodes {
				copied, both := other[partition]
				if !both && how(partition) == everywhere {
					broken = append(broken, fmt.Sprintf("node %d has nothing of %s, and node %d "+
						"has", j, partition, i))
				}
				if j <= i || !both || how(partition) == compacted {
					continue
				}
				equal, difference := compareReplicas(batches, copied)
				same += equal
				if difference != "" {
					broken = append(broken, fmt.Sprintf("nodes %d and %d, %s: %s", i, j, partition,
						difference))
				}
			}
		}
	}
	slices.Sort(broken)
	return broken, same
}

// compareReplicas compares two logs from where both begin to their ends, which
// must be the same.
func compareReplicas(a, b []storedBatch) (same int, difference string) {
	start := max(a[0].BaseOffset, b[0].BaseOffset)
	before := func(batch storedBatch) bool { return batch.BaseOffset < start }
	a, b = slices.DeleteFunc(slices.Clone(a), before), slices.DeleteFunc(slices.Clone(b), before)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return same, fmt.Sprintf("%+v and %+v", a[i], b[i])
		}
		same++
	}
	if len(a) != len(b) {
		return same, fmt.Sprintf("%d batches and %d", len(a), len(b))
	}
	return same, ""
}
