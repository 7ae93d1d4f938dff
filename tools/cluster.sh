#!/usr/bin/env bash
# Runs three nodes of one cluster on this machine until it is stopped, which
# stops them in order: tools/cluster.sh BINARY DIR [BASE-PORT]. Node N serves
# gRPC on BASE+N (9092 to 9094) and HTTP on BASE-1010+N (8082 to 8084); their
# etcds meet on BASE-6712+N (2380 to 2382). Node 0 has the Schema Registry, on
# BASE-1011 (8081).
set -euo pipefail
binary=$1 dir=$2 base=${3:-9092}
peer=$((base - 6712)) http=$((base - 1010))
quorum="0=127.0.0.1:$peer,1=127.0.0.1:$((peer + 1)),2=127.0.0.1:$((peer + 2))"
mkdir -p "$dir"
pids=()
stop() {
  trap - INT TERM EXIT
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  wait
}
trap stop EXIT
trap 'exit 0' INT TERM

for node in 0 1 2; do
  registry=""
  if [ "$node" = 0 ]; then registry="127.0.0.1:$((base - 1011))"; fi
  "$binary" serve --node-id "$node" --rack "rack-$node" --data-dir "$dir/node-$node" \
    --grpc-listen "127.0.0.1:$((base + node))" --http-listen "127.0.0.1:$((http + node))" \
    --registry-listen "$registry" --etcd-peer-listen "127.0.0.1:$((peer + node))" \
    --etcd-initial-cluster "$quorum" \
    --set default.replication.factor=3 --set min.insync.replicas=2 \
    >"$dir/node-$node.log" 2>&1 &
  pids+=("$!")
done

for node in 0 1 2; do
  until grep -q 'is ready' "$dir/node-$node.log"; do
    if ! kill -0 "${pids[$node]}" 2>/dev/null; then
      cat "$dir/node-$node.log" >&2
      exit 1
    fi
    sleep 0.1
  done
done
"$binary" cluster brokers --server "127.0.0.1:$base"
echo
echo "Three nodes are ready; their logs are in $dir/node-N.log. Ctrl-C stops them. Try:"
echo
echo "  bin/sluice topic create hello --partitions 6 --server 127.0.0.1:$base"
echo "  echo world | bin/sluice produce hello --server 127.0.0.1:$((base + 1))"
echo "  bin/sluice consume hello --from beginning --exit-at-end --server 127.0.0.1:$((base + 2))"
wait
