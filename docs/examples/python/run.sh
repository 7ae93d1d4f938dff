#!/bin/sh
# Generates Python code from proto/ and runs client.py, or another program that
# is named, with it:
#
#     docs/examples/python/run.sh [SERVER [TOPIC]]
#     docs/examples/python/run.sh consume.py [SERVER [TOPIC [GROUP [COUNT]]]]
#
# It needs Python 3.10 or newer with venv, and a package index for pip the first
# time. Everything that it makes is in .venv beside it.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
proto=$here/../../../proto
venv=$here/.venv
generated=$venv/generated

if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

# googleapis-common-protos brings google/api/annotations.proto, http.proto,
# field_behavior.proto and google/rpc/status.proto, both as .proto files and as
# Python modules; grpcio-tools brings google/protobuf.
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$generated"
"$venv/bin/python" -m grpc_tools.protoc -I "$proto" -I "$packages" \
    --python_out="$generated" --grpc_python_out="$generated" \
    "$proto"/sluice/v1/*.proto

program=client.py
case ${1-} in *.py)
    program=$1
    shift
    ;;
esac
PYTHONPATH=$generated exec "$venv/bin/python" "$here/$program" "$@"
