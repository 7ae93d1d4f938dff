#!/usr/bin/env bash
# Runs the crash suite: tests/crash/run.sh [GO TEST FLAGS]. Power cuts need FUSE, so on a
# machine without it this makes the device node and installs Debian's fuse3, where it may.
# What still cannot run is named at the end of the report, and fails the run if
# CRASH_MINUTES is set.
set -euo pipefail
cd "$(dirname "$0")"

if [ "$(id -u)" = 0 ] && [ ! -e /dev/fuse ]; then
  modprobe fuse 2>/dev/null || true
  [ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229 || true
fi
if [ "$(id -u)" != 0 ] && ! command -v fusermount3 >/dev/null; then
  sudo -n apt-get install -y -qq --no-install-recommends fuse3 >/dev/null 2>&1 ||
    echo 'crash: install fuse3 to have power cuts as another user than root' >&2
fi

report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
CRASH_REPORT="$report" go test -count=1 "$@" . || status=$?
cat "$report"
exit "$status"
