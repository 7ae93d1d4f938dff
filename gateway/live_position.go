package gateway

import (
	"context"
	"errors"
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
	next       []int64 // offset of each of them
	gaps       []gap
}

// gap is a range of offsets that a caller who resumes will not see, because
// the log no longer holds them.
type gap struct {
	topic      string
	partition  int32
	from, next int64
}

// clone returns a position of its own at the same place.
func (p *position) clone() *position {
	return &position{
		topic: p.topic, all: p.all, partitions: slices.Clone(p.partitions),
		next: slices.Clone(p.next),
	}
}

// extend adds partitions that the topic has gained, from their first record.
func (p *position) extend(partitions []int32) {
	for _, partition := range partitions[len(p.partitions):] {
		p.partitions, p.next = append(p.partitions, partition), append(p.next, 0)
	}
}

// request asks for what follows the position.
func (p *position) request() *sluicev1.FetchStreamRequest {
	request := &sluicev1.FetchStreamRequest{MaxBytes: liveBytesMax}
	for i, partition := range p.partitions {
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: p.topic, Partition: partition, Offset: p.next[i],
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
		dst = strconv.AppendInt(dst, p.next[i], 10)
	}
	return dst
}

var errNoID = errors.New("not the id of an event of this stream, such as 0:42,1:17")

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
			return nil, errNoID
		}
	}
	return next, nil
}

// begin finds where a new stream starts, from its query and Last-Event-ID.
func (g *Gateway) begin(
	ctx context.Context, topic string, r *http.Request,
) (*position, error) {
	query := callOf(r).query
	p := &position{topic: topic}
	count, err := g.partitionCount(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := p.choose(query["partition"], count); err != nil {
		return nil, err
	}
	p.next = make([]int64, len(p.partitions))
	place, id := "Last-Event-ID", r.Header.Get("Last-Event-ID")
	if from := query.Get("from"); id == "" && strings.Contains(from, ":") && from[0] != '@' {
		place, id = "from", from
	}
	if id == "" {
		return p, g.seek(ctx, p, query)
	}
	next, err := parseID(id)
	if err != nil {
		return nil, fault.InvalidRequest.With().At(place, err.Error())
	}
	return p, g.resume(ctx, p, next)
}

// liveParameters are what a live stream takes in its query.
var liveParameters = []string{"from", "partition", "key", "key_prefix", "header"}

// checkLive refuses what a live stream does not take.
func checkLive(query url.Values) error {
	for name, values := range query {
		if !slices.Contains(liveParameters, name) {
			return fault.InvalidRequest.With().At(clip(name),
				"no such parameter; there are "+strings.Join(liveParameters, ", "))
		}
		if name == "from" && len(values) > 1 {
			return fault.InvalidRequest.With().At(name, "given more than once")
		}
	}
	return nil
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
		for i, partition := range p.partitions {
			offset, err := g.offsetAt(ctx, p.topic, partition, at)
			if err != nil {
				return err
			}
			p.next[i] = offset
		}
		return nil
	}
	offset, err := jsonscan.ParseInt([]byte(from), 64)
	if err != nil {
		return fault.InvalidRequest.With().At("from", fmt.Sprintf("%q is none of earliest, "+
			"latest, an offset, @ and a time such as @2026-01-01T00:00:00Z, or the id of an "+
			"event such as 0:42,1:17", clip(from)))
	}
	for i, partition := range p.partitions {
		first, end, err := g.bounds(ctx, p.topic, partition)
		if err != nil {
			return err
		}
		if offset < first || offset > end {
			return fault.OffsetOutOfRange.With("offset", offset, "log_start_offset", first,
				"high_watermark", end, "topic", p.topic, "partition", partition)
		}
		p.next[i] = offset
	}
	return nil
}

// resume starts after the event of an id. What the log no longer holds is
// noted as a gap; partitions that are new since are read from their beginning.
func (g *Gateway) resume(ctx context.Context, p *position, next map[int32]int64) error {
	for i, partition := range p.partitions {
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
		p.next[i] = offset
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

// grown returns the partitions of a topic, where it has gained some since.
func (g *Gateway) grown(ctx context.Context, p *position) ([]int32, error) {
	if !p.all || len(p.partitions) == livePartitionCountMax {
		return nil, nil
	}
	count, err := g.partitionCount(ctx, p.topic)
	if err != nil || int(count) <= len(p.partitions) {
		return nil, err
	}
	all := slices.Clone(p.partitions)
	for partition := int32(len(all)); partition < min(count, livePartitionCountMax); partition++ {
		all = append(all, partition)
	}
	return all, nil
}
