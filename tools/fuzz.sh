#!/usr/bin/env bash
# Runs every fuzz target of the module for a while each: tools/fuzz.sh 10s
set -euo pipefail
seconds=${1:?usage: fuzz.sh DURATION}
grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
  grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | awk '{print $2}' | while read -r target; do
    echo "== $dir $target"
    go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$seconds" \
      -fuzzminimizetime 1x
  done
done
