package sluice

import (
	"context"
	"strconv"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// Offset says where in a partition to begin: Beginning, End, At an offset, Since a time or
// some time Ago. The
// zero Offset is the beginning.
type Offset struct {
	kind   offsetKind
	number int64
	time   time.Time
	ago    time.Duration
}

type offsetKind int8

const (
	offsetBeginning offsetKind = iota
	offsetEnd
	offsetNumber
	offsetTime
	offsetAgo
)

// Beginning is the first record that the log still holds.
func Beginning() Offset { return Offset{} }

// End is the next record to be written.
func End() Offset { return Offset{kind: offsetEnd} }

// At is exactly this offset, not negative.
func At(offset int64) Offset { return Offset{kind: offsetNumber, number: offset} }

// Since is the first record with this timestamp or a later one, and the end where there is none.
func Since(t time.Time) Offset { return Offset{kind: offsetTime, time: t} }

// Ago is Since a time so long before the moment at which it is looked for.
func Ago(d time.Duration) Offset { return Offset{kind: offsetAgo, ago: d} }

// String says it as the command line does: beginning, end, 42 or @2026-01-01T00:00:00Z.
func (o Offset) String() string {
	switch o.kind {
	case offsetEnd:
		return "end"
	case offsetNumber:
		return strconv.FormatInt(o.number, 10)
	case offsetTime:
		return "@" + o.time.UTC().Format(time.RFC3339Nano)
	case offsetAgo:
		return "@-" + o.ago.String()
	}
	return "beginning"
}

// at says it as ListOffsetsRequest does. An offset that is a number has no such form.
func (o Offset) at(now time.Time) string {
	switch o.kind {
	case offsetEnd:
		return "latest"
	case offsetTime:
		return strconv.FormatInt(max(0, o.time.UnixMilli()), 10)
	case offsetAgo:
		return strconv.FormatInt(max(0, now.Add(-o.ago).UnixMilli()), 10)
	}
	return "earliest"
}

// Offset returns the offset that at stands for in a partition now; At(n) is n, whether the log
// holds it or not. Errors: ErrUnknownTopicOrPartition.
func (c *Client) Offset(
	ctx context.Context, topic string, partition int32, at Offset,
) (int64, error) {
	if at.kind == offsetNumber {
		return at.number, nil
	}
	request := &sluicev1.ListOffsetsRequest{
		Topic: topic, Partition: partition, At: at.at(time.Now()),
	}
	answer, err := call(ctx, "finding the offset "+at.String()+" of "+
		partitionName(topic, partition), c.route(topic, partition).log.ListOffsets, request)
	return answer.GetOffset(), err
}

// partitionName writes a partition as Kafka does: flights-3.
func partitionName(topic string, partition int32) string {
	return topic + "-" + strconv.Itoa(int(partition))
}
