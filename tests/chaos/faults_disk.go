package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// fill fills the disk of one node, which must be one of its own (a tmpfs). The
// node may stop; it is started again when there is room.
func fill(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	path := filepath.Join(p.dir, "filling")
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var st syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &st); err != nil {
		return nil, err
	}
	free := int64(st.Bavail) * st.Bsize
	err = syscall.Fallocate(int(file.Fd()), 0, 0, free)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("filling the disk of node %d: %w", p.id, err)
	}
	return func() error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return c.outlive(ctx, p)
	}, nil
}

// outlive returns once all is well, where a node may still be about to end.
func (c *cluster) outlive(ctx context.Context, p *process) error {
	for {
		if err := c.revive(); err != nil {
			return err
		}
		err := c.settled(ctx)
		if err == nil || p.alive() {
			return err
		}
	}
}

// lose kills a node and removes a directory of its data, or all of them. Without
// its log, the node comes back as it is; without its etcd, too, its place in the
// quorum is given to it anew, as docs/operations.md says. Either way it begins
// empty, and must not lead before it has caught up.
func lose(part string) injector {
	return func(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
		if err := c.redundant(ctx); err != nil {
			return nil, err
		}
		p := victims(c, random, 1)[0]
		p.kill()
		if err := os.RemoveAll(filepath.Join(p.dir, "data", part)); err != nil {
			return nil, err
		}
		return func() error {
			if part == "" {
				if err := c.readmit(ctx, p); err != nil {
					return err
				}
			}
			return errors.Join(p.start(), c.settled(ctx))
		}, nil
	}
}

// readmit gives the place of a node in the quorum to it anew.
func (c *cluster) readmit(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	other := c.nodes[(p.id+1)%len(c.nodes)]
	for {
		_, err := sluicev1.NewClusterServiceClient(other.conn).AddQuorumMember(ctx,
			&sluicev1.AddQuorumMemberRequest{
				BrokerId: int32(p.id), PeerAddress: p.publicPeer, Replace: true,
			})
		if err == nil {
			return nil
		}
		if sleeping := sleep(ctx, time.Second); sleeping != nil {
			return fmt.Errorf("letting node %d in again: %w", p.id, err)
		}
	}
}

// settled returns once all run and every replica is in sync.
func (c *cluster) settled(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	if err := c.whole(waiting); err != nil {
		return err
	}
	return c.redundant(ctx)
}

// steadyTopics are those whose replicas are not moved all the time.
var steadyTopics = []string{
	loadTopic, linearTopic, restTopic, sessionTopic, "__consumer_offsets",
}

// redundant returns once all nodes see every replica of the steady topics in sync.
func (c *cluster) redundant(ctx context.Context) error {
	return c.await(ctx, func(ctx context.Context, p *process) (behind int, err error) {
		for _, topic := range steadyTopics {
			got, err := sluicev1.NewTopicServiceClient(p.conn).GetTopic(ctx,
				&sluicev1.GetTopicRequest{Topic: topic})
			if err != nil && !isGone(err) { // that of the offsets comes with the first
				return 0, err
			}
			for _, at := range got.GetTopic().GetPartitions() {
				if len(at.GetIsrIds()) < len(at.GetReplicaIds()) {
					behind++
				}
			}
		}
		return behind, nil
	})
}

// quiet returns once all nodes see every replica of any topic in sync.
func (c *cluster) quiet(ctx context.Context) error {
	return c.await(ctx, func(ctx context.Context, p *process) (int, error) {
		info, err := sluicev1.NewClusterServiceClient(p.conn).GetCluster(ctx,
			&sluicev1.GetClusterRequest{})
		return int(info.GetCluster().GetUnderReplicatedPartitionCount()), err
	})
}

// await returns once all nodes say that nothing is behind.
func (c *cluster) await(
	ctx context.Context, look func(context.Context, *process) (behind int, err error),
) error {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	for {
		good := 0
		var last error
		for _, p := range c.nodes {
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			behind, err := look(call, p)
			cancel()
			switch {
			case err != nil:
				last = fmt.Errorf("node %d: %w", p.id, err)
			case behind > 0:
				last = fmt.Errorf("node %d knows %d partitions with replicas that are not in sync",
					p.id, behind)
			default:
				good++
			}
		}
		if good == len(c.nodes) {
			return nil
		}
		if err := sleep(ctx, retryPause); err != nil {
			return errors.Join(last, err)
		}
	}
}

// wounds are the ways in which a file is damaged.
var wounds = []struct {
	name    string
	inflict func(path string, random *rand.Rand) error
}{
	{"flipped bits", flip},
	{"zeroes", zero},
	{"a cut end", cutEnd},
	{"nothing left", func(path string, _ *rand.Rand) error { return os.Remove(path) }},
}

// damage kills a node and damages one of the files of its log. When it runs again
// it must tell, by its log or by refusing to start, and have whole copies again
// in the end: all of its replicas are read.
func damage(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	if err := c.redundant(ctx); err != nil {
		return nil, err
	}
	p := victims(c, random, 1)[0]
	p.kill()
	log := filepath.Join(p.dir, "data", "log")
	path, err := chooseFile(log, random)
	if err != nil {
		return nil, err
	}
	wound := wounds[random.IntN(len(wounds))]
	if err := wound.inflict(path, random); err != nil {
		return nil, fmt.Errorf("damaging %s: %w", path, err)
	}
	what := strings.TrimPrefix(path, log+"/") + ": " + wound.name
	return func() error {
		if err := c.recover(ctx, p); err != nil {
			return fmt.Errorf("node %d, %s: %w", p.id, what, err)
		}
		if err := c.readReplica(ctx, p); err != nil {
			return fmt.Errorf("node %d, %s: %w", p.id, what, err)
		}
		c.told = append(c.told, wounded{what, tells(p.says())})
		return c.redundant(ctx)
	}, nil
}

// wounded is a damage, and whether the node has said anything about it. A byte of
// what is dead anyway may be damaged unseen.
type wounded struct {
	what string
	told bool
}

// tells reports whether a log speaks of damage.
func tells(log string) bool {
	for _, word := range []string{
		"verdict=LOSSY", "verdict=NEW", "damaged", "missing", "corrupt", "checksum",
		"meta.json", "opening the log in", // which failed, and why
	} {
		if strings.Contains(log, word) {
			return true
		}
	}
	return false
}

// recover starts a node with damaged files. Where it refuses, and says that it
// is damaged, its log is removed as an operator would.
func (c *cluster) recover(ctx context.Context, p *process) error {
	waiting, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	if err := p.start(); err != nil {
		return err
	}
	err := c.whole(waiting)
	if err == nil || p.alive() {
		return err
	}
	if !tells(p.says()) {
		return fmt.Errorf("it does not start, and does not say that it is damaged: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(p.dir, "data", "log")); err != nil {
		return err
	}
	return errors.Join(p.start(), c.whole(waiting))
}

// readReplica reads everything that a node has a replica of, from that replica,
// until all of it reads.
func (c *cluster) readReplica(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	topics, err := sluicev1.NewTopicServiceClient(p.conn).ListTopics(ctx,
		&sluicev1.ListTopicsRequest{})
	if err != nil {
		return err
	}
	for _, t := range topics.GetTopics() {
		for partition := range t.GetPartitionCount() {
			if err := readAll(ctx, p, t.GetTopic(), partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll reads a partition from a node's own replica, if it has one in sync.
func readAll(ctx context.Context, p *process, topic string, partition int32) error {
	log := sluicev1.NewLogServiceClient(p.conn)
	for at := int64(0); ; {
		page, err := log.Fetch(ctx, &sluicev1.FetchRequest{
			Topic: topic, Partition: partition, Offset: at, Rack: rackOf(p.id),
			Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
		})
		switch {
		case err == nil && page.GetNextOffset() == at:
			return nil
		case err == nil:
			at = page.GetNextOffset()
			continue
		case isGone(err):
			return nil
		}
		if sleeping := sleep(ctx, retryPause); sleeping != nil {
			return fmt.Errorf("reading %s-%d at %d: %w", topic, partition, at, err)
		}
	}
}

// chooseFile chooses one of the kinds of files of a log, and one file of it.
func chooseFile(log string, random *rand.Rand) (string, error) {
	kinds := []string{
		"journal/*.log", "journal/*.log", "db/*.sst", "db/*.mem", "db/MANIFEST", "checkpoint",
		"meta.json", "high-watermarks",
	}
	for _, i := range random.Perm(len(kinds)) {
		found, err := filepath.Glob(filepath.Join(log, kinds[i]))
		if err != nil {
			return "", err
		}
		slices.Sort(found)
		if len(found) > 0 {
			return found[random.IntN(len(found))], nil
		}
	}
	return "", fmt.Errorf("no files in %s: %w", log, fs.ErrNotExist)
}

// woundBytes is how much of a file is damaged.
const woundBytes = 64

// spot chooses where a file is damaged: within what is not zero at its end, as
// files may be longer than their content.
func spot(path string, random *rand.Rand) (raw []byte, at int, err error) {
	if raw, err = os.ReadFile(path); err != nil {
		return nil, 0, err
	}
	used := len(raw)
	for used > 0 && raw[used-1] == 0 {
		used--
	}
	if used == 0 {
		return raw, 0, nil
	}
	return raw, random.IntN(used), nil
}

func flip(path string, random *rand.Rand) error {
	raw, at, err := spot(path, random)
	if err != nil || len(raw) == 0 {
		return err
	}
	raw[at] ^= 1 << random.IntN(8)
	return os.WriteFile(path, raw, 0o600)
}

func zero(path string, random *rand.Rand) error {
	raw, at, err := spot(path, random)
	if err != nil {
		return err
	}
	clear(raw[at:min(at+woundBytes, len(raw))])
	return os.WriteFile(path, raw, 0o600)
}

func cutEnd(path string, random *rand.Rand) error {
	_, at, err := spot(path, random)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(at))
}
