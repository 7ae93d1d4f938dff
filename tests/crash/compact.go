package crash

import (
	"time"

	"github.com/sluicelog/sluice/storage"
)

// compactOften lets a partition be compacted again and again.
func compactOften(cfg *storage.PartitionConfig) {
	cfg.CleanupPolicy = storage.CleanupCompact
	cfg.CleanableRatioMin = 0.1
}

// cleanOften lets the cleaner rest little.
func cleanOften(cfg *storage.Config) { cfg.CleanerBackoff = 100 * time.Millisecond }

// tuneForFullDisk makes the store small enough for a small disk.
func tuneForFullDisk(cfg *storage.Config) { cfg.BallastBytes = 16 << 20 }
