#!/usr/bin/env bash
# Compares Sluice with its peers: tests/peers/run.sh [FLAGS OF main.go]. Redis is Debian's
# redis-server; where it is missing and cannot be installed, its rows are left out. NATS
# comes with the Go module.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v redis-server >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends redis-server >/dev/null || true
fi

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
go build -o "$built/peers" .
"$built/peers" "$@"
