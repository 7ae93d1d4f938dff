#!/usr/bin/env bash
# Runs pages of documentation as printed, each in a fresh clone of the last
# commit: tools/tour.sh README.md [PAGE ...]
set -euo pipefail
source=$(git rev-parse --show-toplevel)
for page in "$@"; do
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  git clone -q "$source" "$dir/sluice"
  (cd "$dir/sluice" && go run ./tools/tour "$page")
  rm -rf "$dir"
done
