package cluster

import "time"

// processStart is the zero of sinceBoot where the system has no better clock.
var processStart = time.Now()
