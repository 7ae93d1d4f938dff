#!/usr/bin/env bash
# Runs a command on a machine that tools/machines.sh has made: machine.sh ADDRESS COMMAND...
# It has the network of the machine, and its /var/lib.
set -euo pipefail
address=$1
shift
# shellcheck disable=SC2016
exec ip netns exec "m-$address" unshare -m bash -c \
  'mount --bind "$1" /var/lib; shift; exec "$@"' _ "$MACHINES/$address" "$@"
