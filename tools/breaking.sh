#!/usr/bin/env bash
# Compares the protos with those of an earlier commit: tools/breaking.sh BUF COMMIT
# The earlier tree is unpacked, because buf's own git input would miss the
# git-ignored google protos.
set -euo pipefail
buf=${1:?usage: breaking.sh BUF COMMIT}
commit=${2:?usage: breaking.sh BUF COMMIT}
if ! git cat-file -e "$commit:proto" 2>/dev/null; then
  echo "no protos at $commit: nothing to compare with"
  exit 0
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$commit" proto buf.yaml | tar -x -C "$old"
go run ./tools/protodeps .protodeps
cp -r .protodeps "$old/.protodeps"
(cd "$old" && "$buf" build proto -o "$old/old.binpb")
"$buf" breaking proto --against "$old/old.binpb"
echo "the protos break no client of $commit"
