#!/usr/bin/env bash
# Opens the documentation pages of a node in a headless browser: run.sh SLUICE,
# where SLUICE is the path of the binary. Installs Debian's chromium and what
# package-lock.json pins, where they are missing.
set -euo pipefail

binary=$(realpath "${1:?usage: run.sh SLUICE}")
cd "$(dirname "$0")"

if ! command -v chromium >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
if [[ ! -d node_modules/playwright-core || package-lock.json -nt node_modules ]]; then
  npm ci --no-audit --no-fund --silent
  touch node_modules
fi
SLUICE="$binary" exec node --test --test-reporter=spec docs.test.mjs
