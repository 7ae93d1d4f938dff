package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// livePartitionCountMax is the API's own limit on the partitions of one stream.
const livePartitionCountMax = 1000

// position is where a live stream stands in each partition that it reads.
type position struct {
	topic      string
	all        bool // of the topic, also those that are added later
	partitions []int32
	next       map[int32]int64
	gaps       []gap
}

// gap is a range of offsets that a caller who resumes will not see, because
// the log no longer holds them.
type gap struct {
	topic      string
	partition  int32
	from, next int64
}

// advance moves the position in one partition.
func (p *position) advance(partition int32, next int64) { p.next[partition] = next }

// request asks for what follows the position.
func (p *position) request() *sluicev1.FetchStreamRequest {
	request := &sluicev1.FetchStreamRequest{}
	for _, partition := range p.partitions {
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: p.topic, Partition: partition, Offset: p.next[partition],
		})
	}
	return request
}

// appendID writes the position as an event id, such as 0:42,1:17: the next
// offset of each partition.
func (p *position) appendID(dst []byte) []byte {
	for i, partition := range p.partitions {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(partition), 10)
		dst = append(dst, ':')
		dst = strconv.AppendInt(dst, p.next[partition], 10)
	}
	return dst
}

// parseID reads what appendID wrote.
func parseID(id string) (map[int32]int64, error) {
	next := map[int32]int64{}
	for item := range strings.SplitSeq(id, ",") {
		name, offset, _ := strings.Cut(item, ":")
		partition, err := jsonscan.ParseInt([]byte(name), 32)
		if err == nil {
			next[int32(partition)], err = jsonscan.ParseInt([]byte(offset), 64)
		}
		if err != nil || len(next) > livePartitionCountMax {
			return nil, fault.InvalidRequest.With().At("Last-Event-ID",
				"not the id of an event of this stream")
		}
	}
	return next, nil
}

// begin finds where a new stream starts, from its query and Last-Event-ID.
func (g *Gateway) begin(
	ctx context.Context, topic string, r *http.Request,
) (*position, error) {
	query := r.URL.Query()
	for name, values := range query {
		if name != "from" && name != "partition" {
			return nil, fault.InvalidRequest.With().At(clip(name),
				"no such parameter; there are from, partition")
		}
		if name == "from" && len(values) > 1 {
			return nil, fault.InvalidRequest.With().At(name, "given more than once")
		}
	}
	p := &position{topic: topic, next: map[int32]int64{}}
	count, err := g.partitionCount(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := p.choose(query["partition"], count); err != nil {
		return nil, err
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return p, g.resume(ctx, p, id)
	}
	return p, g.seek(ctx, p, query)
}

func (g *Gateway) partitionCount(ctx context.Context, topic string) (int32, error) {
	answer, err := g.topics.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: topic})
	return answer.GetTopic().GetPartitionCount(), err
}

// choose takes the partitions that a query names, or all.
func (p *position) choose(named []string, count int32) error {
	if len(named) == 0 {
		p.all = true
		for partition := range count {
			p.partitions = append(p.partitions, partition)
		}
	}
	for _, text := range named {
		partition, err := jsonscan.ParseInt([]byte(text), 32)
		if err != nil {
			return fault.InvalidRequest.With().At("partition", err.Error())
		}
		if partition < 0 || int32(partition) >= count {
			return fault.UnknownPartition.With("topic", p.topic, "partition", partition)
		}
		if slices.Contains(p.partitions, int32(partition)) {
			return fault.InvalidRequest.With().At("partition",
				fmt.Sprintf("%d is given more than once", partition))
		}
		p.partitions = append(p.partitions, int32(partition))
	}
	if len(p.partitions) > livePartitionCountMax {
		return fault.InvalidRequest.With().At("partition", fmt.Sprintf(
			"the topic has %d partitions, a stream reads at most %d: name some",
			count, livePartitionCountMax))
	}
	return nil
}

// seek starts at `from`: latest (the default), earliest, an offset, or @time.
func (g *Gateway) seek(ctx context.Context, p *position, query url.Values) error {
	from := query.Get("from")
	if !query.Has("from") {
		from = "latest"
	}
	at, timed := strings.CutPrefix(from, "@")
	switch {
	case from == "earliest", from == "latest", timed && at != "" && at != "latest" &&
		at != "earliest" && at != "max_timestamp":
		for _, partition := range p.partitions {
			offset, err := g.offsetAt(ctx, p.topic, partition, at)
			if err != nil {
				return err
			}
			p.next[partition] = offset
		}
		return nil
	}
	offset, err := jsonscan.ParseInt([]byte(from), 64)
	if err != nil {
		return fault.InvalidRequest.With().At("from", fmt.Sprintf("%q is none of earliest, "+
			"latest, an offset, or @ and a time such as @2026-01-01T00:00:00Z", clip(from)))
	}
	for _, partition := range p.partitions {
		first, end, err := g.bounds(ctx, p.topic, partition)
		if err != nil {
			return err
		}
		if offset < first || offset > end {
			return fault.OffsetOutOfRange.With("offset", offset, "log_start_offset", first,
				"high_watermark", end, "topic", p.topic, "partition", partition)
		}
		p.next[partition] = offset
	}
	return nil
}

// resume starts after the event of an id. What the log no longer holds is
// noted as a gap; partitions that are new since are read from their beginning.
func (g *Gateway) resume(ctx context.Context, p *position, id string) error {
	next, err := parseID(id)
	if err != nil {
		return err
	}
	for _, partition := range p.partitions {
		first, end, err := g.bounds(ctx, p.topic, partition)
		if err != nil {
			return err
		}
		offset, known := next[partition]
		if known && (offset < first || offset > end) {
			p.gaps = append(p.gaps, gap{p.topic, partition, offset, first})
		}
		if !known || offset < first || offset > end {
			offset = first
		}
		p.next[partition] = offset
	}
	return nil
}

func (g *Gateway) bounds(
	ctx context.Context, topic string, partition int32,
) (first, end int64, err error) {
	if first, err = g.offsetAt(ctx, topic, partition, "earliest"); err != nil {
		return 0, 0, err
	}
	end, err = g.offsetAt(ctx, topic, partition, "latest")
	return first, end, err
}

func (g *Gateway) offsetAt(
	ctx context.Context, topic string, partition int32, at string,
) (int64, error) {
	answer, err := g.streams.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
		Topic: topic, Partition: partition, At: at,
	})
	return answer.GetOffset(), err
}

// addPartitions adds the partitions that a topic has gained, from their first
// record, and reports whether there are any.
func (g *Gateway) addPartitions(ctx context.Context, p *position) (bool, error) {
	if !p.all || len(p.partitions) == livePartitionCountMax {
		return false, nil
	}
	count, err := g.partitionCount(ctx, p.topic)
	if err != nil {
		return false, err
	}
	known := int32(len(p.partitions))
	for partition := known; partition < min(count, livePartitionCountMax); partition++ {
		p.partitions = append(p.partitions, partition)
		p.next[partition] = 0
	}
	return count > known, nil
}
