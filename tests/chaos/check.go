package chaos

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// dump reads a topic from end to end: payloads in the order of their offsets, by
// partition.
func dump(
	ctx context.Context, c *cluster, topic string, partitions int32,
) (map[int32][]string, error) {
	all := map[int32][]string{}
	log := sluicev1.NewLogServiceClient(c.nodes[0].conn)
	for partition := range partitions {
		for {
			page, err := log.Fetch(ctx, &sluicev1.FetchRequest{
				Topic: topic, Partition: partition, Offset: int64(len(all[partition])),
			})
			if err != nil {
				return nil, fmt.Errorf("dumping %s-%d: %w", topic, partition, err)
			}
			if len(page.GetRecords()) == 0 {
				if end := int64(len(all[partition])); page.GetHighWatermark() != end {
					return nil, fmt.Errorf("%s-%d: nothing is read at %d, below its high "+
						"watermark of %d", topic, partition, end, page.GetHighWatermark())
				}
				break
			}
			for _, r := range page.GetRecords() {
				if r.GetOffset() != int64(len(all[partition])) {
					return nil, fmt.Errorf("%s-%d: offset %d follows %d", topic, partition,
						r.GetOffset(), len(all[partition])-1)
				}
				all[partition] = append(all[partition], string(r.GetValue()))
			}
		}
	}
	return all, nil
}

// check holds what the clients were told against the final log.
func (r *report) check(l *ledger, final map[int32][]string) {
	where := map[string]int64{}
	for partition, payloads := range final {
		last := map[string]int{} // by producer
		for offset, payload := range payloads {
			if _, twice := where[payload]; twice {
				r.duplicated++
				l.violation("%s is there twice, the second time at %d-%d", payload, partition,
					offset)
			} else {
				where[payload] = int64(offset)
			}
			parts := strings.Split(payload, "|")
			n, err := strconv.Atoi(parts[len(parts)-1])
			if err != nil {
				l.violation("a strange payload %q", payload)
				continue
			}
			if before, ok := last[parts[0]]; ok && n <= before {
				r.reordered++
				l.violation("%s comes after number %d", payload, before)
			}
			last[parts[0]] = n
		}
	}
	for _, a := range l.acks {
		offset, there := where[a.payload]
		if !there || a.offset >= 0 && offset != a.offset {
			r.lost++
			l.violation("%s was acknowledged at %d-%d, and is at %d (%v)", a.payload,
				a.partition, a.offset, offset, there)
		}
	}
	for partition, seen := range l.read {
		for offset, payload := range seen {
			if offset >= int64(len(final[partition])) || final[partition][offset] != payload {
				r.different++
				l.violation("a reader saw %s at %d-%d, where the log holds something else",
					payload, partition, offset)
			}
		}
	}
	r.acked += len(l.acks)
	r.retries += l.retries
	r.unknown += len(l.unknown)
}

// gap returns the longest time without an acknowledgement on some partition that
// overlaps a span of time.
func gap(acks []ack, partitions int32, from, to time.Time) time.Duration {
	times := make([][]time.Time, partitions)
	for _, a := range acks {
		times[a.partition] = append(times[a.partition], a.at)
	}
	longest := time.Duration(0)
	for _, at := range times {
		slices.SortFunc(at, func(a, b time.Time) int { return a.Compare(b) })
		for i := 1; i < len(at); i++ {
			if at[i].After(from) && at[i-1].Before(to) {
				longest = max(longest, at[i].Sub(at[i-1]))
			}
		}
	}
	return longest
}
