package registry

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// The sizes of the pages of lists.
const (
	pageSizeDefault = 1_000
	pageSizeMax     = 10_000
)

// pager is a request for a page of a list.
type pager interface {
	GetPageSize() int32
	GetPageToken() string
}

// pageOf returns the page of a sorted list that a request asks for, and the
// token of the next one. A token is the key of the last item, so that what is
// added or deleted meanwhile moves no other item. compare tells an item's key
// from one of a token: below 0 where the item comes first.
func pageOf[T any](
	q pager, all []T, key func(T) string, compare func(T, string) int,
) (page []T, next string, err error) {
	size := q.GetPageSize()
	if size < 0 {
		return nil, "", ledger.Unprocessable.With("page_size is negative")
	}
	if size == 0 {
		size = pageSizeDefault
	}
	size = min(size, pageSizeMax)
	if q.GetPageToken() != "" {
		last, err := base64.RawURLEncoding.DecodeString(q.GetPageToken())
		if err != nil {
			return nil, "", ledger.Unprocessable.With("page_token is not one that a list returned")
		}
		for len(all) > 0 && compare(all[0], string(last)) <= 0 {
			all = all[1:]
		}
	}
	if len(all) <= int(size) {
		return all, "", nil
	}
	page = all[:size]
	return page, base64.RawURLEncoding.EncodeToString([]byte(key(page[size-1]))), nil
}

func itself(s string) string { return s }

// compareNumber compares a number with one that a token holds.
func compareNumber[N ~int32](n N, token string) int {
	last, err := strconv.ParseInt(token, 10, 32)
	if err != nil {
		return 1
	}
	return int(int64(n) - last)
}

func keyOfNumber[N ~int32](n N) string { return strconv.Itoa(int(n)) }

// keyOfUse writes a version of a subject as a token holds it.
func keyOfUse(u ledger.Use) string { return keyOfNumber(u.Version) + " " + u.Subject }

func compareUse(u ledger.Use, token string) int {
	version, subject, _ := strings.Cut(token, " ")
	if n := strings.Compare(u.Subject, subject); n != 0 {
		return n
	}
	return compareNumber(u.Version, version)
}

// ListUses lists where an id is registered.
func (s *service) ListUses(
	ctx context.Context, q *registryv1.ListUsesRequest,
) (*registryv1.ListUsesResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListUsesResponse, error) {
			uses, err := state.UsesOf(ledger.ID(q.GetId()), q.GetSubject(), q.GetIncludeDeleted())
			if err != nil {
				return nil, err
			}
			page, next, err := pageOf(q, uses, keyOfUse, compareUse)
			answer := &registryv1.ListUsesResponse{NextPageToken: next}
			for _, use := range page {
				if v, ok := state.Subject(use.Subject).Find(use.Version); ok {
					answer.Versions = append(answer.Versions, bareVersion(use.Subject, v))
				}
			}
			return answer, err
		})
}

// ListSubjects lists subjects.
func (s *service) ListSubjects(
	ctx context.Context, q *registryv1.ListSubjectsRequest,
) (*registryv1.ListSubjectsResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListSubjectsResponse, error) {
			all := state.Subjects(q.GetSubjectPrefix(), q.GetIncludeDeleted(), q.GetDeletedOnly())
			page, next, err := pageOf(q, all, itself, strings.Compare)
			return &registryv1.ListSubjectsResponse{Subjects: page, NextPageToken: next}, err
		})
}

// ListVersions lists the versions of a subject.
func (s *service) ListVersions(
	ctx context.Context, q *registryv1.ListVersionsRequest,
) (*registryv1.ListVersionsResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListVersionsResponse, error) {
			subject := state.Alias(q.GetSubject())
			all, err := state.Versions(subject, q.GetIncludeDeleted(), q.GetDeletedOnly())
			if err != nil {
				return nil, err
			}
			page, next, err := pageOf(q, all,
				func(v ledger.Registered) string { return keyOfNumber(v.Version) },
				func(v ledger.Registered, last string) int {
					return compareNumber(v.Version, last)
				})
			answer := &registryv1.ListVersionsResponse{NextPageToken: next}
			for _, v := range page {
				answer.Versions = append(answer.Versions, bareVersion(subject, v))
			}
			return answer, err
		})
}

// ListReferrers lists the schemas that refer to a version.
func (s *service) ListReferrers(
	ctx context.Context, q *registryv1.ListReferrersRequest,
) (*registryv1.ListReferrersResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListReferrersResponse, error) {
			version, err := newest(q.GetVersion())
			if err != nil {
				return nil, err
			}
			a, err := state.Get(state.Alias(q.GetSubject()), version, true)
			if err != nil {
				return nil, err
			}
			ids := state.ReferencedBy(a.Subject, a.Version, q.GetIncludeDeleted())
			page, next, err := pageOf(q, ids, keyOfNumber[ledger.ID], compareNumber[ledger.ID])
			answer := &registryv1.ListReferrersResponse{NextPageToken: next}
			for _, id := range page {
				answer.Ids = append(answer.Ids, int32(id))
			}
			return answer, err
		})
}

// ListContexts lists contexts.
func (s *service) ListContexts(
	ctx context.Context, q *registryv1.ListContextsRequest,
) (*registryv1.ListContextsResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListContextsResponse, error) {
			var all []string
			for _, name := range state.Contexts() {
				if hasPrefix(name, q.GetContextPrefix()) {
					all = append(all, name)
				}
			}
			page, next, err := pageOf(q, all, itself, strings.Compare)
			return &registryv1.ListContextsResponse{Contexts: page, NextPageToken: next}, err
		})
}

// schemasBytesMax is where a page of schemas ends early.
const schemasBytesMax = 1 << 20

// ListSchemas lists the versions of all subjects.
func (s *service) ListSchemas(
	ctx context.Context, q *registryv1.ListSchemasRequest,
) (*registryv1.ListSchemasResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.ListSchemasResponse, error) {
			return s.listSchemas(state, q)
		})
}

func (s *service) listSchemas(
	state *ledger.State, q *registryv1.ListSchemasRequest,
) (*registryv1.ListSchemasResponse, error) {
	if q.GetPageSize() < 0 {
		return nil, ledger.Unprocessable.With("page_size is negative")
	}
	size := min(int(q.GetPageSize()), s.r.config.Limits.PageCountMax)
	if size == 0 {
		size = s.r.config.Limits.PageCountMax
	}
	after, err := base64.RawURLEncoding.DecodeString(q.GetPageToken())
	if err != nil {
		return nil, ledger.Unprocessable.With("page_token is not one that a list returned")
	}
	_, last, _ := strings.Cut(string(after), " ")
	l := listing{
		deleted: q.GetIncludeDeleted(), latestOnly: q.GetLatestOnly(),
		ruleType: q.GetRuleType(),
	}
	answer, bytes, previous := &registryv1.ListSchemasResponse{}, 0, ""
	for _, name := range state.Names(q.GetSubjectPrefix()) {
		if len(after) > 0 && name < last {
			continue
		}
		for _, v := range l.versions(state.Subject(name)) {
			use := ledger.Use{Subject: name, Version: v.Version}
			if len(after) > 0 && compareUse(use, string(after)) <= 0 {
				continue
			}
			if n := len(answer.Versions); n == size || n > 0 && bytes > schemasBytesMax {
				answer.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(previous))
				return answer, nil
			}
			previous = keyOfUse(use)
			bytes += len(v.Content.Text)
			answer.Versions = append(answer.Versions,
				versionMessage(ledger.Answer{Subject: name, Registered: v}))
		}
	}
	return answer, nil
}
