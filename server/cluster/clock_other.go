//go:build !linux

package cluster

import "time"

// sinceBoot is a clock that nobody can set (B2).
func sinceBoot() time.Duration { return time.Since(processStart) }
