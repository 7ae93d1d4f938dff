#!/usr/bin/env bash
# Shows that the tests of the log's promise can fail: tests/crash/mutations.sh [short] [RULE].
# One rule at a time is left out of a copy of the sources, and the tests that are to find it
# are run. It fails if a rule can be left out unseen, or is not where this script looks for
# it. The crash suite's part takes power cuts, which need root and /dev/fuse; the short form
# leaves it out, and what of bad input is refused. RULE, a part of a rule's name, chooses some of the rules.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
short=
if [ "${1:-}" = short ]; then
  short=yes
  shift
fi
chosen=${1:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
unseen=0 tried=0

# without RULE FILE SED-EXPRESSION PACKAGE TESTS [AIM OF POWER CUTS]
without() {
  [[ "$1" == *"$chosen"* ]] || return 0
  [ -z "$short" ] || [ "$4" != tests/crash ] || return 0
  tried=$((tried + 1))
  rm -rf "$copy/sources" && mkdir "$copy/sources"
  git ls-files -z | xargs -0 cp --parents -t "$copy/sources"
  sed -i "$3" "$copy/sources/$2"
  if cmp -s "$2" "$copy/sources/$2"; then
    echo "GONE    $1: nothing in $2 is changed by $3"
    unseen=$((unseen + 1))
    return
  fi
  local status=0
  (cd "$copy/sources/$4" && go vet . && CRASH_MINUTES=1 CRASH_AIM="${6:-}" timeout 600 \
    go test -count=1 -run "$5" .) >"$copy/out" 2>&1 || status=$?
  if [ "$status" = 0 ] || ! grep -q -- '^--- FAIL' "$copy/out" || grep -q 'needs' "$copy/out"; then
    echo "UNSEEN  $1, by $5 of $4"
    tail -n 20 "$copy/out"
    unseen=$((unseen + 1))
    return
  fi
  echo "found   $1, by $(sed -n 's/^--- FAIL: \([A-Za-z]*\).*/\1/p' "$copy/out" | paste -sd' ')"
}

# What is on disk before it counts.
without 'a sync before the answer' storage/commit.go \
  's/err = s.engine.sync(uint64(s.written.Load()))/err = error(nil)/' tests/crash 'PowerCut' 'a write'
without 'a sync before the answer' storage/commit.go \
  's/err = s.engine.sync(uint64(s.written.Load()))/err = error(nil)/' storage 'FailedCommit'
without 'an end of the store with a failed sync' storage/commit.go \
  's/err = s.failAll(err)$/err = error(nil)/' storage 'FailedCommit'
without 'an end of the store with a failed sync' storage/commit.go \
  's/err = s.failAll(err)$/err = error(nil)/' tests/crash 'FailedSync'
without 'the durable name of a new journal file' storage/journal.go \
  '/len(names) == 0/,/names: %w/s/syncDir(j.dir)/error(nil)/' tests/crash 'PowerCut' 'a write'
without 'the durable name of the directory' storage/open.go \
  's/if err := syncDir(parent)/if err := error(nil)/' tests/crash 'PowerCut' 'a write'
without 'a sync of what a kill left' storage/open.go \
  's/errors.Join(s.journal.secure(from.File), secureTables(s.dbDir))/error(nil)/' tests/crash 'KillThenCut'
without 'durable names of the tables that a checkpoint counts on' storage/open.go \
  's/^\t\t\tfrom = safe .*/\t\t\t_ = safe/' storage 'AheadOfTheJournal'

# What is believed when it is read.
without 'the checksum of what is read' storage/read.go \
  '/^func parseStored/,/^}/s/if verify {/if verify \&\& at < 0 {/' storage 'Damage|Scrub|Corrupt'
without 'the checksum of what is read' storage/read.go \
  '/^func parseStored/,/^}/s/if verify {/if verify \&\& at < 0 {/' tests/crash 'TestDamage'
without 'the checksum of the last frames' storage/replay.go \
  's/castagnoli) != h.dataCRC {/castagnoli) != h.dataCRC \&\& r.next == 0 {/' storage 'Cut|Journal|Sectors'
without 'the checksum of the last frames' storage/replay.go \
  's/castagnoli) != h.dataCRC {/castagnoli) != h.dataCRC \&\& r.next == 0 {/' \
  tests/crash 'PowerCut' 'a write'
without 'batches that follow one another' storage/read.go \
  's/if at != next && (at < next/if at < 0 \&\& (at < next/' storage 'MissingBatch'
without 'a broken frame that was on disk is no end' storage/replay.go \
  's/if r.next > max(r.known, synced) {/if r.next > max(r.known, synced) || at > 0 {/' storage 'Journal'
without 'a check before a batch is moved' storage/collect.go \
  's/_, err = parseStored(base, value, true)/_, err = parseStored(base, value, false)/' \
  storage 'Collect'
without 'an end that is cut off behind the last frame' storage/journal.go \
  's/&& f.size.Load() > int64(end.At) {/\&\& f.size.Load() > int64(end.At)+1<<40 {/' storage 'BehindTheEnd'

# What a start says.
without 'an index that is not ahead of the journal' storage/open.go \
  's/if held.Commit > last {/if held.Commit > last+1<<40 {/' storage 'AheadOfTheJournal'
without 'a marker of a clean stop after the stop' storage/store.go \
  's/^\terr := s.tasks.Close()/\t_ = s.markClean()\n&/; s/err = s.markClean()/err = error(nil)/' \
  storage 'FailedCommit'
without 'a marker of a clean stop that is taken away' storage/evidence.go \
  's/if err := os.Remove(filepath.Join(dir, cleanName))/if err := error(nil)/' storage 'Verdicts'
without 'a checkpoint of what is synced' storage/store.go \
  's/Commit: uint64(s.durable.Load()), Indexed/Commit: uint64(s.written.Load()), Indexed/' \
  storage 'NothingSays'
without 'a checkpoint before the answer from a new file' storage/commit.go \
  's/if !s.journal.named.Swap(false) {/if s.journal.named.Swap(false) || !s.journal.named.Load() {/' \
  storage 'MissingJournalFile'
without 'a checkpoint of files with durable names' storage/journal.go \
  's/^\t\tif f.named {/\t\tif f.named || number > 0 {/' storage 'NothingSays'
without 'a file that is missing is missed' storage/open.go \
  's/if s.journal.files\[c.File\] == nil {/if s.journal.files[c.File] == nil \&\& c.File == 0 {/' \
  storage 'MissingJournalFile'
without 'a verdict that stays until it is noted' storage/open.go \
  's/if s.meta.Verdict != "" && verdict != VerdictLossy {/if s.meta.Verdict == "none" {/' \
  storage 'Verdicts'
without 'tables that are not taken for nothing' storage/manifest.go \
  's/if err == nil && len(names) > 0 {/if err == nil \&\& len(names) > 1<<20 {/' storage 'Manifest'
without 'the checksum of whose directory it is' storage/evidence.go \
  's/if m.readable() && m.Sum != m.sum() {/if m.Format < 0 {/' storage 'Foreign'
without 'a floor of free space' storage/writer.go \
  's/if free := s.full.Load(); free >= 0 {/if free := s.full.Load(); free >= 1<<60 {/' \
  storage 'FreeSpaceFloor'
without 'disk space of a write-ahead log before it is used' storage/index.go \
  '/x.space.ahead()/d' storage 'WriteAheadLogs'
without 'another try of a checkpoint for which the disk has no room' storage/background.go \
  's/if noSpace(err) {/if noSpace(err) \&\& err == nil {/' tests/crash 'OthersFill'

without 'a seal that tells frames from what records hold' storage/journal.go \
  '/^func sealOf/,/^}/s/len(head) >= len(unsealedMagic)/number > 0 || &/' storage 'WithinARecord'

without 'a look at the tables before Badger reads them' storage/tables.go \
  's/err = verifyTable(index, sum)/err = nil/' storage 'BrokenTable'
without 'producers that outlive what they are made of' storage/trim.go \
  's/from < 0 || from >= before {/from < before {/' storage 'NobodyAskedFor'
without 'a clock that is known from the first start' storage/open.go \
  '/s.beginClock()/d' storage 'BeforeTheFirst'
without 'the state of a partition that is moved' storage/collect.go \
  '/^\tg.touch(p)$/d' storage 'WithoutTheIndex'

# What compaction may take.
without 'a marker that outlives its transaction' storage/clean.go \
  's/return false, !left, nil/return false, left || true, nil/' storage 'MarkerOutlives'
without 'an end of compaction at open transactions' storage/clean_pass.go \
  's/c.to = max(from, c.c.txns.decided(c.to))/c.to = max(from, c.to)/' storage 'OpenTransaction'
# What is refused; the short form leaves it out, for its time.
if [ -z "$short" ]; then
  without 'a batch as long as it says' internal/batch/batch.go \
    's/if int64(h.Length)+prefixBytes != int64(len(b)) {/if h.Length < 0 {/' storage 'LiesAboutItself'
  without 'the checksum of a batch that comes in' internal/batch/batch.go \
    's/if sum := checksum(b); sum != h.CRC {/if sum := checksum(b); h.CRC == 0 {/' \
    storage 'EveryFlippedBit'
  without 'a batch that is not too large' storage/append.go \
    's/len(b) > limit {/len(b) > limit<<10 {/' storage 'LiesAboutItself'
  without 'as many records as the last offset says' storage/append.go \
    's/if int64(header.Count) != int64/if int64(header.Count) > int64/' storage 'LiesAboutItself'
  without 'as many records as the batch says' internal/batch/check.go \
    '/^func checkRecords/,/^}/s/if s.rest() == 0 {/if s.rest() == 0 \&\& i > 0 {\n\t\t\tbreak\n\t\t}\n\t\t&/' \
    server 'BadBatches'
  without 'an append after the close that is told so' storage/writer.go \
    '/!s.queue.push(o)/,/}/s/return ErrClosed/return ErrWithdrawn/' storage 'MeetTheClose'
  without 'the format of a directory' storage/evidence.go \
    's/case !m.readable():/case m.Format == 0:/' storage 'Foreign'
  without 'the node of a directory' storage/evidence.go \
    's/case m.NodeID != cfg.NodeID:/case m.NodeID < 0:/' storage 'Foreign'
  without 'the cluster of a directory' storage/evidence.go \
    's/m.ClusterID != cfg.ClusterID:/m.ClusterID < cfg.ClusterID[:0]:/' storage 'Foreign'
  without 'one store in a directory of two names' storage/disk_unix.go \
    's/return ErrLocked/return nil/' storage 'TestLinks'
  without 'a directory that can be written to' storage/open.go \
    '/^func lockDir/,/^}/s/, os.O_RDWR|os.O_CREATE, 0o600)/, os.O_RDONLY, 0)/' \
    storage 'CannotBeWrittenTo'
  without 'a clock that is not believed at once' storage/retention.go \
    's/|| ahead <= jump || c.settled/|| ahead != jump || c.settled/' storage 'Clock'
fi
[ "$tried" -gt 0 ] || { echo "no rule has '$chosen' in its name" >&2; exit 2; }
echo "$((tried - unseen)) of $tried found"
exit "$((unseen > 0))"
