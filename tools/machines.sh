#!/usr/bin/env bash
# Runs the blocks of a page that say on which machine they run, as printed:
# tools/machines.sh PAGE BINARIES. Each machine is a network namespace with that
# address and a /var/lib of its own; they share the directory that the commands are
# run in, as if files had been copied. Nothing of it stays. Needs root and iproute2.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${MACHINES:-}" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo 'machines: only root makes network namespaces' >&2
    exit 1
  fi
  MACHINES=$(mktemp -d)
  export MACHINES
  trap 'rm -rf "$MACHINES"' EXIT
  go build -o "$MACHINES/tour" ./tools/tour
  unshare -n -m bash tools/machines.sh "$@"
  exit
fi

page=$PWD/$1 here=$PWD
PATH=$(cd "$2" && pwd):$PATH
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip link add bridge type bridge
ip link set bridge up
number=0
grep -oE '^```sh .*at [0-9.]+' "$page" | grep -oE '[0-9.]+$' | sort -u | while read -r address; do
  mkdir "$MACHINES/$address"
  ip netns add "m-$address"
  ip link add "port$number" type veth peer name eth0 netns "m-$address"
  ip link set "port$number" master bridge up
  ip -n "m-$address" addr add "$address/16" dev eth0
  ip -n "m-$address" link set eth0 up
  ip -n "m-$address" link set lo up
  number=$((number + 1))
done
mkdir "$MACHINES/work"
cd "$MACHINES/work"
"$MACHINES/tour" -machines "$here/tools/machine.sh" "$page"
