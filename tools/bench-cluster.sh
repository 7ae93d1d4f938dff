#!/usr/bin/env bash
# Measures a cluster of three nodes on this machine, and prints the tables of
# docs/benchmarks.md: tools/bench-cluster.sh BINARY [ROUNDS [BASE-PORT]].
# RECORDS (default 200000) are written in each round, AWAY (default 400000)
# while a node is away, and PARTITIONS lists how many a lone node keeps.
set -euo pipefail
binary=$1 rounds=${2:-5} base=${3:-9092}
records=${RECORDS:-200000} away=${AWAY:-400000}
dir=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT
server="127.0.0.1:$base,127.0.0.1:$((base + 1)),127.0.0.1:$((base + 2))"
peers="0=127.0.0.1:$((base + 10)),1=127.0.0.1:$((base + 11)),2=127.0.0.1:$((base + 12))"

ready() { # ready LOG: until the node that writes it serves
  until grep -q 'is ready' "$1"; do sleep 0.02; done
}

node() { # node N: start a node of the cluster
  "$binary" serve --node-id "$1" --data-dir "$dir/$1" --grpc-listen "127.0.0.1:$((base + $1))" \
    --http-listen "" --registry-listen "" --etcd-peer-listen "127.0.0.1:$((base + 10 + $1))" \
    --etcd-initial-cluster "$peers" >"$dir/$1.log" 2>&1 &
  pids[$1]=$!
}

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
now() { date +%s.%N; }
since() {
  python3 -c 'import sys; print(f"{float(sys.argv[2]) - float(sys.argv[1]):.2f}")' "$1" "$(now)"
}

for n in 0 1 2; do node "$n"; done
for n in 0 1 2; do ready "$dir/$n.log"; done
for factor in 1 3; do
  "$binary" topic create "rf$factor" --partitions 12 --replication-factor "$factor" \
    --set min.insync.replicas=$(((factor + 1) / 2)) --server "$server" >/dev/null
done

echo '| replicas | round | records/s | MB/s | p50 ms | p99 ms |'
echo '|---|---|---|---|---|---|'
for round in $(seq "$rounds"); do
  for factor in 1 3; do
    "$binary" bench produce --topic "rf$factor" --records "$records" --record-size 1024 \
      --acks all --clients 4 --server "$server" --output json >"$dir/bench.json"
    python3 - "$dir/bench.json" "$factor" "$round" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
print(f"| {sys.argv[2]} | {sys.argv[3]} | {r['records_per_second']:,.0f} | "
      f"{r['mb_per_second']:.1f} | {r['latency_ms']['p50']:.1f} | {r['latency_ms']['p99']:.1f} |")
PYTHON
  done
done

"$binary" topic create away --partitions 12 --replication-factor 3 \
  --set min.insync.replicas=2 --server "$server" >/dev/null
kill -9 "${pids[2]}"
wait "${pids[2]}" 2>/dev/null || true
"$binary" bench produce --topic away --records "$away" --record-size 1024 --acks all --clients 4 \
  --server "$server" --output json >/dev/null
begun=$(now)
node 2
until "$binary" cluster info --server "$server" --output json >"$dir/info.json" 2>/dev/null &&
  [ "$(field under_replicated_partition_count <"$dir/info.json")" = 0 ]; do sleep 0.1; done
took=$(since "$begun")
echo
echo "A node that was away for $((away / 1024)) MiB of records was in sync again" \
  "$took s after its start."
for n in 0 1 2; do kill -TERM "${pids[$n]}"; done
wait 2>/dev/null || true
pids=()

echo
echo '| partitions | start s | resident MiB | idle CPU % |'
echo '|---|---|---|---|'
for count in ${PARTITIONS:-1000 10000}; do
  lone() {
    "$binary" serve --data-dir "$dir/lone-$count" --grpc-listen "127.0.0.1:$base" \
      --http-listen "" --registry-listen "" >"$dir/lone.log" 2>&1 &
    pids=($!)
    ready "$dir/lone.log"
  }
  lone
  for topic in $(seq $((count / 500))); do
    "$binary" topic create "many-$topic" --partitions 500 --server "127.0.0.1:$base" >/dev/null
  done
  kill -TERM "${pids[0]}"
  wait "${pids[0]}" || true
  begun=$(now)
  lone
  took=$(since "$begun")
  sleep 5
  ticks() { awk '{print $14 + $15}' "/proc/${pids[0]}/stat"; }
  before=$(ticks)
  sleep 10
  cpu=$(python3 -c 'import sys; print((int(sys.argv[2]) - int(sys.argv[1])) / 10)' \
    "$before" "$(ticks)")
  memory=$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/${pids[0]}/status")
  echo "| $count | $took | $memory | $cpu |"
  kill -TERM "${pids[0]}"
  wait "${pids[0]}" || true
  pids=()
done
