package registry

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// WatchSubjects sends changes as they are made. Each feed reads the log by
// itself, so that a slow one holds up no other and none needs a buffer.
func (s *service) WatchSubjects(
	q *registryv1.WatchSubjectsRequest,
	stream grpc.ServerStreamingServer[registryv1.WatchSubjectsResponse],
) error {
	ctx := stream.Context()
	if err := s.ready(ctx, 0); err != nil {
		return s.failure(ctx, err)
	}
	if q.GetFromRevision() < 0 {
		return s.failure(ctx, ledger.Unprocessable.With("from_revision is negative"))
	}
	limit := s.r.config.Limits.WatchCountMax
	if s.r.watches.Add(1) > limit {
		s.r.watches.Add(-1)
		return s.failure(ctx, ledger.Overloaded.With(limit))
	}
	defer s.r.watches.Add(-1)
	from := ledger.Revision(q.GetFromRevision())
	start, _, err := s.r.store.journal.bounds(ctx)
	if err != nil {
		return s.failure(ctx, ledger.StoreFailed.With("Error from the backend store"))
	}
	from = max(from, start)
	if q.FromRevision == nil {
		from = s.r.store.position()
	}
	err = s.r.store.journal.follow(ctx, from, func(r stretch) error {
		for _, record := range r.records {
			m := watched(record, q.GetSubjectPrefix())
			if m == nil {
				continue
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return s.failure(ctx, ctx.Err())
	case errors.Is(err, errReset):
		return s.failure(ctx, ledger.Unprocessable.With("from_revision is beyond the end"))
	}
	return s.failure(ctx, ledger.StoreFailed.With("The change feed broke; go on at its revision"))
}

// watched writes a record for a feed, or returns nil if it is not for it.
func watched(r stamped, prefix string) *registryv1.WatchSubjectsResponse {
	c, err := ledger.Decode(r.Record)
	if err != nil || !watches(c.Subject, prefix) {
		return nil
	}
	m := &registryv1.WatchSubjectsResponse{
		Revision: int64(r.at) + 1, Time: timestamppb.New(time.UnixMilli(r.time)),
		Subject: c.Subject,
	}
	switch c.Kind {
	case ledger.SchemaChange:
		m.Change = &registryv1.WatchSubjectsResponse_VersionRemoved{
			VersionRemoved: int32(c.Version),
		}
		if !c.Removed {
			m.Change = &registryv1.WatchSubjectsResponse_Version{
				Version: versionMessage(ledger.Answer{
					Subject: c.Subject, Registered: ledger.Registered{
						Version: c.Version, ID: c.ID, Deleted: c.Deleted, Time: r.time,
						Content: c.Content,
					},
				}),
			}
		}
	case ledger.SubjectDelete:
		m.Change = &registryv1.WatchSubjectsResponse_DeletedUpToVersion{
			DeletedUpToVersion: int32(c.Version),
		}
	case ledger.ConfigChange:
		m.Change = &registryv1.WatchSubjectsResponse_Config{Config: configMessage(c.Config)}
	case ledger.ModeChange:
		m.Change = &registryv1.WatchSubjectsResponse_Mode{Mode: modeMessage(c.Mode)}
	default:
		return nil
	}
	return m
}

func watches(subject, prefix string) bool {
	if rest, every := strings.CutPrefix(prefix, ledger.AllContexts); every {
		return strings.HasPrefix(ledger.ParseName(subject).Subject, rest)
	}
	return strings.HasPrefix(subject, prefix)
}
