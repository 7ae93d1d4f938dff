package server

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// ListOffsets finds an offset of a partition.
func (l *logService) ListOffsets(
	ctx context.Context, request *sluicev1.ListOffsetsRequest,
) (*sluicev1.ListOffsetsResponse, error) {
	r, err := l.s.newReader(request.GetTopic(), request.GetPartition(), 0, "")
	if err != nil {
		return nil, err
	}
	if r.fenced && request.GetAt() != "earliest" {
		// Where the log begins it can say: one that reads from there learns the rest.
		return nil, notHere(r.topic.Name, r.partition)
	}
	log := r.log
	var at storage.Offset
	var timestamp int64
	found := false
	switch text := request.GetAt(); text {
	case "", "latest":
		at, err = log.Latest()
	case "earliest":
		at = log.Start()
	case "max_timestamp":
		at, timestamp, found, err = log.MaxTimestamp(ctx)
	default:
		ms, ok := readTime(text)
		if !ok {
			return nil, fault.InvalidRequest.With().At("at", "is none of earliest, latest, "+
				"max_timestamp, a time as in RFC 3339, and milliseconds since 1970")
		}
		at, timestamp, found, err = log.OffsetForTime(ctx, ms)
	}
	if err != nil {
		return nil, l.s.located(err, r.topic, r.partition)
	}
	response := &sluicev1.ListOffsetsResponse{Offset: int64(at)}
	if found {
		response.Timestamp = timestamppb.New(time.UnixMilli(timestamp))
	}
	return response, nil
}

// readTime reads RFC 3339 or milliseconds since 1970. A part of a millisecond
// counts as a whole one: a record at or after the time is not before it.
func readTime(text string) (ms int64, ok bool) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ms, ms >= 0
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, false
	}
	ms = t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms, true
}
