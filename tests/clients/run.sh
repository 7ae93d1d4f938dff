#!/usr/bin/env bash
# Runs real Schema Registry and REST Proxy clients of three languages, and clients
# made of the OpenAPI document, against a node of its own: run.sh SLUICE, where
# SLUICE is the path of the binary. Installs what the lock files beside it pin, where that
# is missing. Needs Go, Node's npm and Python 3 with venv.
set -euo pipefail

binary=$(realpath "${1:?usage: run.sh SLUICE}")
here=$(realpath "$(dirname "$0")")
root=$(realpath "$here/../..")
work=$(mktemp -d)
node=

stop() {
  if [[ -n $node ]]; then
    kill "$node" 2>/dev/null || true
    wait "$node" || true
  fi
  rm -rf "$work"
}
trap stop EXIT

# The google protos that proto/ imports, for clients that make code from it.
(cd "$root" && go run ./tools/protodeps "$work/protos")
export SLUICE_TEST_PROTOS="$root/proto:$work/protos"

"$binary" serve --data-dir "$work/data" --log-level error --grpc-listen 127.0.0.1:0 \
  --http-listen 127.0.0.1:0 --registry-listen 127.0.0.1:0 >"$work/banner" 2>"$work/log" &
node=$!

address() { # address LINE: what the banner has on a line
  awk -v line="$1" '$1 == line {print $2; exit}' "$work/banner"
}
for ((i = 0; i < 600; i++)); do
  [[ -n $(address schemas) ]] && break
  if ! kill -0 "$node" 2>/dev/null; then
    echo 'run.sh: the node ended:' >&2
    cat "$work/log" >&2
    exit 1
  fi
  sleep 0.1
done
SLUICE_TEST_GRPC=$(address gRPC)
SLUICE_TEST_HTTP=$(address HTTP)
SLUICE_TEST_REGISTRY=$(address schemas)
export SLUICE_TEST_GRPC SLUICE_TEST_HTTP SLUICE_TEST_REGISTRY
: "${SLUICE_TEST_REGISTRY:?the node is not ready after a minute}"

failed=0

mkdir "$work/openapi"
bash "$here/openapi/run.sh" "$work/openapi" || failed=1

printf '\n--- Node: @kafkajs/confluent-schema-registry, @confluentinc/schemaregistry\n'
cd "$here/node"
if [[ ! -d node_modules/@grpc || package-lock.json -nt node_modules ]]; then
  npm ci --no-audit --no-fund --silent --ignore-scripts
  touch node_modules
fi
node --test --test-reporter=spec kafkajs.test.mjs confluent.test.mjs || failed=1

printf '\n--- Python: confluent-kafka[schemaregistry,avro]; kafka-bridge-client, pymapr-kafkarest\n'
cd "$here/python"
if ! cmp -s requirements.txt .venv/installed.txt; then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt .venv/installed.txt
fi
mkdir "$work/generated"
.venv/bin/python -m grpc_tools.protoc -I "$root/proto" -I "$work/protos" \
  --python_out="$work/generated" --grpc_python_out="$work/generated" \
  "$root"/proto/sluice/v1/*.proto "$work"/protos/google/{api,rpc}/*.proto
PYTHONPATH="$work/generated" .venv/bin/python -m pytest -v -p no:cacheprovider . || failed=1

printf '\n--- Go: github.com/twmb/franz-go/pkg/sr\n'
cd "$here/go"
go test -v -count=1 ./... || failed=1

exit "$failed"
