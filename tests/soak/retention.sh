#!/usr/bin/env bash
# Shows that disk space comes back: tests/soak/retention.sh BINARY [SECONDS [RECORDS/S]].
# A node takes a steady load of 8 KiB records (default 60 s at 4,000 a second) into a topic
# that keeps 32 MiB, and the size of its data directory is printed as it goes. It fails if
# the directory ever grows past its bound, or does not settle within two minutes after the
# load. No other file is left behind.
set -euo pipefail
binary=$(realpath "$1") seconds=${2:-60} rate=${3:-4000}

# What the node may hold at most, in MiB: what is kept, what waits to be reclaimed (256), the
# files that are being written and the ballast (64), and what a slow disk is late by.
bound=768 settled=512
dir=$(mktemp -d)
node=
stop() {
  [ -z "$node" ] || { kill -INT "$node" 2>/dev/null || true; wait "$node" || true; }
  rm -rf "$dir"
}
trap stop EXIT
size() { du -sm "$dir/data/log" | cut -f1; }

"$binary" serve --data-dir "$dir/data" --grpc-listen 127.0.0.1:0 --http-listen '' \
  --registry-listen '' --set log.retention.check.interval.ms=1000 >"$dir/out" 2>&1 &
node=$!
for _ in $(seq 600); do
  server=$(awk '$1 == "gRPC" {print $2}' "$dir/out")
  [ -z "$server" ] || break
  kill -0 "$node" || { cat "$dir/out"; exit 1; }
  sleep 0.1
done
"$binary" topic create soak --server "$server" --set retention.bytes=33554432 \
  --set segment.bytes=4194304 >/dev/null
before=$(size)

echo '| second | written, MiB | directory, MiB |'
echo '|---|---|---|'
"$binary" bench produce --topic soak --record-size 8192 --records $((seconds * rate)) \
  --throughput "$rate" --server "$server" >"$dir/load" 2>&1 &
load=$!
most=0 second=0
while kill -0 "$load" 2>/dev/null; do
  sleep 1
  second=$((second + 1))
  now=$(size)
  [ "$now" -le "$most" ] || most=$now
  end=$("$binary" topic describe soak --server "$server" | awk '$1 == "0" {print $NF}')
  [ $((second % 5)) -ne 0 ] || echo "| $second | $((${end:-0} / 128)) | $now |"
done
wait "$load" || { cat "$dir/load"; exit 1; }
written=$((seconds * rate / 128))

for waited in $(seq 0 120); do
  now=$(size)
  [ "$now" -gt "$settled" ] || break
  sleep 1
done
echo "| $((second + waited)), at rest | $written | $now |"
echo "before $before MiB, at most $most MiB (bound $bound) under $written MiB written"
[ "$most" -le "$bound" ] || { echo "the directory grew past $bound MiB" >&2; exit 1; }
[ "$now" -le "$settled" ] || { echo "the directory stays above $settled MiB" >&2; exit 1; }
