#!/usr/bin/env bash
# Makes clients of the OpenAPI document that a node serves, in TypeScript and in
# Python, and sends records through them: run.sh FOLDER, where FOLDER takes what
# is made. SLUICE_TEST_HTTP is the node. Needs Node's npm and Python 3 with venv.
set -euo pipefail

work=$(realpath "${1:?usage: run.sh FOLDER}")
cd "$(dirname "$0")"
node -e 'fetch(process.argv[1]).then((a) => a.text()).then((text) => process.stdout.write(text))' \
  "$SLUICE_TEST_HTTP/openapi.json" >"$work/openapi.json"
failed=0

printf '\n--- TypeScript: @hey-api/openapi-ts\n'
if [[ ! -d node_modules/typescript || package-lock.json -nt node_modules ]]; then
  npm ci --no-audit --no-fund --silent --ignore-scripts
  touch node_modules
fi
npx openapi-ts --silent -i "$work/openapi.json" -o "$work/typescript"
npx tsc --outDir "$work/javascript" --target es2022 --module commonjs --moduleResolution node10 \
  --lib es2022,dom,dom.iterable --strict --skipLibCheck "$work/typescript/index.ts" \
  "$work/typescript/client.gen.ts"
SLUICE_TEST_CLIENT="$work/javascript" node --test --test-reporter=spec roundtrip.test.mjs || failed=1

printf '\n--- Python: openapi-python-client\n'
if ! cmp -s requirements.txt .venv/installed.txt; then
  python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
  cp requirements.txt .venv/installed.txt
fi
.venv/bin/openapi-python-client generate --path "$work/openapi.json" --meta none --overwrite \
  --output-path "$work/sluice_client" >"$work/python.log" 2>&1 ||
  { cat "$work/python.log" >&2; exit 1; }
if grep -B2 -A8 'Endpoint will not be generated' "$work/python.log"; then
  echo 'run.sh: operations are missing' >&2
  failed=1
fi
PYTHONPATH="$work" .venv/bin/python roundtrip.py || failed=1

exit "$failed"
