#!/usr/bin/env bash
# Measures the storage layer beside a plain append-only file; prints the tables of
# docs/benchmarks.md. Usage: tools/bench-storage.sh [GB]; with GB it also fills that
# much into 1,000 partitions of $TMPDIR (10 for the table).
set -euo pipefail
cd "$(dirname "$0")/.."
gb=${1:-}
echo "machine: $(nproc) cores, $(awk '/MemTotal/{printf "%.0f GB", $2/1e6}' /proc/meminfo)," \
  "load before: $(cut -d' ' -f1-3 /proc/loadavg), $(go version | cut -d' ' -f3)"
SLUICE_GOALS=1 SLUICE_GOALS_GB=$gb go test ./storage -run "${SLUICE_GOALS_RUN:-TestGoals}" -v -count=1 \
  -timeout 30m | grep -v '^=== \|INFO'
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
