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
)

// etcdWounds are the ways in which the files of a node's own etcd are damaged. What
// its database says is not guarded by checksums, so only damage that makes it
// unreadable is found at the start; and a log without its end is what a crash
// leaves.
var etcdWounds = []struct {
	name, files string
	inflict     func(path string, random *rand.Rand) error
}{
	{"flipped bits", "wal/*.wal", flip},
	{"zeroes", "wal/*.wal", zero},
	{"a cut end", "wal/*.wal", cutEnd},
	{"nothing left", "wal/*.wal", func(path string, _ *rand.Rand) error { return os.Remove(path) }},
	{"a cut end", "snap/db", cutShort},
	{"nothing left", "snap/db", func(path string, _ *rand.Rand) error { return os.Remove(path) }},
}

// cutShort leaves a page and a half of a file, of which a database cannot be read.
func cutShort(path string, _ *rand.Rand) error { return os.Truncate(path, 6<<10) }

// damageEtcd kills a node and damages a file of its etcd. The others must go on. The
// node comes back, or refuses to start, says why, and is replaced as
// docs/operations.md says.
func damageEtcd(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	if err := c.redundant(ctx); err != nil {
		return nil, err
	}
	p := victims(c, random, 1)[0]
	p.kill()
	wound := etcdWounds[random.IntN(len(etcdWounds))]
	member := filepath.Join(p.dir, "data", "cluster", "etcd", "member")
	found, err := filepath.Glob(filepath.Join(member, wound.files))
	if err != nil || len(found) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no %s in %s: %w", wound.files, member,
			fs.ErrNotExist))
	}
	slices.Sort(found)
	path := found[random.IntN(len(found))]
	if err := wound.inflict(path, random); err != nil {
		return nil, fmt.Errorf("damaging %s: %w", path, err)
	}
	what := "etcd/" + strings.TrimPrefix(path, member+"/") + ": " + wound.name
	return func() error {
		refused, err := c.recoverEtcd(ctx, p)
		if err != nil {
			return fmt.Errorf("node %d, %s: %w", p.id, what, err)
		}
		c.told = append(c.told, wounded{what, refused})
		return c.redundant(ctx)
	}, nil
}

// recoverEtcd starts a node whose etcd is damaged. Where it refuses, and says that
// its etcd is the reason, its data are removed and its place is given to it anew.
func (c *cluster) recoverEtcd(ctx context.Context, p *process) (refused bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, 2*wholeTime)
	defer cancel()
	if err := p.start(); err != nil {
		return false, err
	}
	err = c.whole(waiting)
	if err == nil || p.alive() {
		return false, err
	}
	if said := p.says(); !strings.Contains(said, "etcd in ") {
		return true, fmt.Errorf("it does not start, and does not say that its etcd is the "+
			"reason: %.400s", said)
	}
	if err := os.RemoveAll(filepath.Join(p.dir, "data")); err != nil {
		return true, err
	}
	if err := c.readmit(ctx, p); err != nil {
		return true, err
	}
	return true, errors.Join(p.start(), c.whole(waiting))
}
