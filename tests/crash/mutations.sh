#!/usr/bin/env bash
# Shows that the tests of the log's promise can fail: tests/crash/mutations.sh. One rule at
# a time is left out of a copy of the sources, and the tests that are to find it are run. It
# fails if a rule can be left out unseen, or is not where this script looks for it. Power
# cuts need root and /dev/fuse, as for the crash suite.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
unseen=0

# without RULE FILE SED-EXPRESSION PACKAGE TESTS
without() {
  rm -rf "$copy/sources" && mkdir "$copy/sources"
  git ls-files -z | xargs -0 cp --parents -t "$copy/sources"
  sed -i "$3" "$copy/sources/$2"
  if cmp -s "$2" "$copy/sources/$2"; then
    echo "GONE    $1: nothing in $2 is changed by $3"
    unseen=$((unseen + 1))
    return
  fi
  local status=0
  (cd "$copy/sources/$4" && go vet . && CRASH_MINUTES=1 timeout 600 \
    go test -count=1 -run "$5" .) >"$copy/out" 2>&1 || status=$?
  if [ "$status" = 0 ] || ! grep -q -- '^--- FAIL' "$copy/out" || grep -q 'needs' "$copy/out"; then
    echo "UNSEEN  $1"
    tail -n 20 "$copy/out"
    unseen=$((unseen + 1))
    return
  fi
  echo "found   $1, by $(sed -n 's/^--- FAIL: \([A-Za-z]*\).*/\1/p' "$copy/out" | paste -sd' ')"
}

without 'a sync before the answer' storage/commit.go \
  's/err = s.engine.sync(uint64(s.written.Load()))/err = error(nil)/' tests/crash 'PowerCut'
without 'a sync before the answer' storage/commit.go \
  's/err = s.engine.sync(uint64(s.written.Load()))/err = error(nil)/' storage 'FailedCommit'
without 'the checksum of what is read' storage/read.go \
  '/^func parseStored/,/^}/s/if verify {/if verify \&\& at < 0 {/' storage 'Damage|Scrub|Corrupt'
without 'the checksum of what is read' storage/read.go \
  '/^func parseStored/,/^}/s/if verify {/if verify \&\& at < 0 {/' tests/crash 'TestDamage'
without 'the checksum of the last frames' storage/replay.go \
  's/castagnoli) != h.dataCRC {/castagnoli) != h.dataCRC \&\& r.next == 0 {/' storage 'Cut|Journal|Sectors'
without 'the checksum of the last frames' storage/replay.go \
  's/castagnoli) != h.dataCRC {/castagnoli) != h.dataCRC \&\& r.next == 0 {/' tests/crash 'PowerCut'
without 'an index that is not ahead of the journal' storage/open.go \
  's/if held.Commit > last {/if held.Commit > last+1<<40 {/' storage 'AheadOfTheJournal'
without 'a marker of a clean stop after the stop' storage/store.go \
  's/^\terr := s.tasks.Close()/\t_ = s.markClean()\n&/; s/err = s.markClean()/err = error(nil)/' \
  storage 'NothingSays'
without 'a checkpoint of what is synced' storage/store.go \
  's/Commit: uint64(s.durable.Load()), Indexed/Commit: uint64(s.written.Load()), Indexed/' \
  storage 'NothingSays'
without 'a sync of what a kill left' storage/open.go \
  's/err := s.journal.secure(from.File)/err := error(nil)/' tests/crash 'KillThenCut'
without 'a marker that outlives its transaction' storage/clean.go \
  's/return false, !left, nil/return false, left || true, nil/' storage 'MarkerOutlives'
without 'an end of compaction at open transactions' storage/clean_pass.go \
  's/c.to = max(from, c.c.txns.decided(c.to))/c.to = max(from, c.to)/' storage 'OpenTransaction'
exit "$((unseen > 0))"
