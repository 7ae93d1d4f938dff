package registry

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/internal/inproc"
)

// twin returns a client of a registry's gRPC side.
func (g *rig) twin() registryv1.RegistryServiceClient {
	channel := inproc.New(inproc.Options{})
	g.Cleanup(channel.Close)
	g.RegisterGRPC(channel)
	return registryv1.NewRegistryServiceClient(channel)
}

// fails checks the status of a failed call.
func fails(t *testing.T, err error, code codes.Code, reason, errorCode string) {
	t.Helper()
	st := status.Convert(err)
	require.Equal(t, code, st.Code(), "%v", err)
	require.Len(t, st.Details(), 1)
	info, ok := st.Details()[0].(*errdetails.ErrorInfo)
	require.True(t, ok)
	assert.Equal(t, reason, info.GetReason())
	assert.Equal(t, Domain, info.GetDomain())
	assert.Equal(t, errorCode, info.GetMetadata()["error_code"])
}

func TestTheTwinRegistersAndReads(t *testing.T) {
	g := fresh(t)
	c, ctx := g.twin(), t.Context()
	a, err := c.RegisterSchema(ctx, &registryv1.RegisterSchemaRequest{
		Subject: "s", Schema: &registryv1.Schema{Schema: recordA},
	})
	require.NoError(t, err)
	assert.Equal(t, int32(1), a.GetVersion().GetId())
	assert.Equal(t, int64(1), a.GetRevision())
	assert.Equal(t, recordA, a.GetVersion().GetSchema().GetSchema())

	_, err = c.RegisterSchema(ctx, &registryv1.RegisterSchemaRequest{
		Subject: "s", Schema: &registryv1.Schema{Schema: recordBad},
	})
	fails(t, err, codes.FailedPrecondition, "INCOMPATIBLE_SCHEMA", "409")
	dry, err := c.RegisterSchema(ctx, &registryv1.RegisterSchemaRequest{
		Subject: "s", Schema: &registryv1.Schema{Schema: recordAB}, ValidateOnly: true,
	})
	require.NoError(t, err)
	assert.Equal(t, int32(2), dry.GetVersion().GetVersion())

	check, err := c.CheckCompatibility(ctx, &registryv1.CheckCompatibilityRequest{
		Subject: "s", Schema: &registryv1.Schema{Schema: recordBad}, Version: -1,
	})
	require.NoError(t, err)
	assert.False(t, check.GetCompatible())
	assert.Len(t, check.GetMessages(), 4)

	found, err := c.LookUpSchema(ctx, &registryv1.LookUpSchemaRequest{
		Subject: "s", Schema: &registryv1.Schema{Schema: recordA}, MinRevision: 1,
	})
	require.NoError(t, err)
	assert.Equal(t, int32(1), found.GetVersion().GetVersion())
	by, err := c.GetSchema(ctx, &registryv1.GetSchemaRequest{
		Key: &registryv1.GetSchemaRequest_Guid{Guid: found.GetVersion().GetGuid()},
	})
	require.NoError(t, err)
	assert.Equal(t, recordA, by.GetSchema().GetSchema())
	assert.Equal(t, ".", by.GetIds()[0].GetContext())
	_, err = c.GetSchema(ctx, &registryv1.GetSchemaRequest{
		Key: &registryv1.GetSchemaRequest_Id{Id: 9},
	})
	fails(t, err, codes.NotFound, "SCHEMA_NOT_FOUND", "40403")
	version, err := c.GetVersion(ctx, &registryv1.GetVersionRequest{Subject: "s"})
	require.NoError(t, err)
	assert.Equal(t, int64(1), version.GetVersion().GetCreateTime().AsTime().UnixMilli())
	_, err = c.GetVersion(ctx, &registryv1.GetVersionRequest{Subject: "s", Version: -2})
	fails(t, err, codes.InvalidArgument, "INVALID_VERSION", "42202")
}

func TestTheTwinDeletesAndSets(t *testing.T) {
	g := fresh(t)
	c, ctx := g.twin(), t.Context()
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	level := &registryv1.Config{
		CompatibilityLevel: registryv1.CompatibilityLevel_COMPATIBILITY_LEVEL_FULL,
	}
	set, err := c.UpdateConfig(ctx, &registryv1.UpdateConfigRequest{Subject: "s", Config: level})
	require.NoError(t, err)
	assert.Equal(t, level.GetCompatibilityLevel(), set.GetConfig().GetCompatibilityLevel())
	got, err := c.GetConfig(ctx, &registryv1.GetConfigRequest{Subject: "s"})
	require.NoError(t, err)
	assert.Equal(t, level.GetCompatibilityLevel(), got.GetConfig().GetCompatibilityLevel())
	_, err = c.UpdateConfig(ctx, &registryv1.UpdateConfigRequest{Subject: "s"})
	fails(t, err, codes.InvalidArgument, "INVALID_COMPATIBILITY_LEVEL", "42203")
	_, err = c.DeleteConfig(ctx, &registryv1.DeleteConfigRequest{Subject: "s"})
	require.NoError(t, err)

	mode, err := c.UpdateMode(ctx, &registryv1.UpdateModeRequest{
		Subject: "s", Mode: registryv1.Mode_MODE_READONLY,
	})
	require.NoError(t, err)
	assert.Equal(t, registryv1.Mode_MODE_READONLY, mode.GetMode())
	_, err = c.DeleteSubject(ctx, &registryv1.DeleteSubjectRequest{Subject: "s"})
	fails(t, err, codes.FailedPrecondition, "OPERATION_NOT_PERMITTED", "42205")
	_, err = c.UpdateMode(ctx, &registryv1.UpdateModeRequest{})
	fails(t, err, codes.InvalidArgument, "INVALID_MODE", "42204")
	_, err = c.DeleteMode(ctx, &registryv1.DeleteModeRequest{Subject: "s"})
	require.NoError(t, err)
	_, err = c.GetMode(ctx, &registryv1.GetModeRequest{Subject: "s"})
	fails(t, err, codes.NotFound, "SUBJECT_MODE_NOT_FOUND", "40409")

	v, err := c.DeleteVersion(ctx, &registryv1.DeleteVersionRequest{Subject: "s", Version: -1})
	require.NoError(t, err)
	assert.Equal(t, int32(1), v.GetVersion())
	s, err := c.DeleteSubject(ctx, &registryv1.DeleteSubjectRequest{Subject: "s", Permanent: true})
	require.NoError(t, err)
	assert.Equal(t, []int32{1}, s.GetVersions())
	_, err = c.DeleteContext(ctx, &registryv1.DeleteContextRequest{Context: "x"})
	fails(t, err, codes.NotFound, "NOT_FOUND", "404")
}

func TestTheTwinPagesItsLists(t *testing.T) {
	g := fresh(t)
	c, ctx := g.twin(), t.Context()
	var want []string
	for i := range 7 {
		subject := fmt.Sprintf("s%d", i)
		want = append(want, subject)
		g.ok("POST", "/subjects/"+subject+"/versions", posting(`"int"`), `{"id":1}`)
	}
	g.ok("POST", "/subjects/s0/versions", posting(`"long"`), `{"id":2}`)
	var subjects, uses, schemas []string
	for token, first := "", true; first || token != ""; first = false {
		page, err := c.ListSubjects(ctx, &registryv1.ListSubjectsRequest{
			PageSize: 3, PageToken: token,
		})
		require.NoError(t, err)
		subjects, token = append(subjects, page.GetSubjects()...), page.GetNextPageToken()
	}
	assert.Equal(t, want, subjects)
	for token, first := "", true; first || token != ""; first = false {
		page, err := c.ListUses(ctx, &registryv1.ListUsesRequest{
			Id: 1, PageSize: 2, PageToken: token,
		})
		require.NoError(t, err)
		for _, v := range page.GetVersions() {
			uses = append(uses, v.GetSubject())
		}
		token = page.GetNextPageToken()
	}
	assert.Equal(t, want, uses)
	for token, first := "", true; first || token != ""; first = false {
		page, err := c.ListSchemas(ctx, &registryv1.ListSchemasRequest{
			PageSize: 3, PageToken: token,
		})
		require.NoError(t, err)
		for _, v := range page.GetVersions() {
			schemas = append(schemas, fmt.Sprint(v.GetSubject(), v.GetVersion()))
		}
		token = page.GetNextPageToken()
	}
	assert.Equal(t, []string{"s01", "s02", "s11", "s21", "s31", "s41", "s51", "s61"}, schemas)
	versions, err := c.ListVersions(ctx, &registryv1.ListVersionsRequest{
		Subject: "s0", PageSize: 1,
	})
	require.NoError(t, err)
	assert.NotEmpty(t, versions.GetNextPageToken())
	_, err = c.ListContexts(ctx, &registryv1.ListContextsRequest{PageSize: -1})
	fails(t, err, codes.InvalidArgument, "INVALID_REQUEST", "422")
	_, err = c.ListSubjects(ctx, &registryv1.ListSubjectsRequest{PageToken: "?"})
	fails(t, err, codes.InvalidArgument, "INVALID_REQUEST", "422")
	contexts, err := c.ListContexts(ctx, &registryv1.ListContextsRequest{})
	require.NoError(t, err)
	assert.Equal(t, []string{"."}, contexts.GetContexts())
	referrers, err := c.ListReferrers(ctx, &registryv1.ListReferrersRequest{Subject: "s0"})
	require.NoError(t, err)
	assert.Empty(t, referrers.GetIds())
}

func TestTheChangeFeed(t *testing.T) {
	g := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.ok("POST", "/subjects/a/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/b/versions", posting(`"int"`), `{"id":1}`)
	feed, err := g.twin().WatchSubjects(ctx, &registryv1.WatchSubjectsRequest{
		SubjectPrefix: "b", FromRevision: new(int64),
	})
	require.NoError(t, err)
	m, err := feed.Recv()
	require.NoError(t, err)
	assert.Equal(t, "b", m.GetSubject())
	assert.Equal(t, int64(2), m.GetRevision())
	assert.Equal(t, `"int"`, m.GetVersion().GetSchema().GetSchema())
	g.ok("PUT", "/mode/b?force=true", `{"mode":"IMPORT"}`, `{"mode":"IMPORT"}`)
	g.ok("DELETE", "/subjects/b", "", `[1]`)
	m, err = feed.Recv()
	require.NoError(t, err)
	assert.Equal(t, registryv1.Mode_MODE_IMPORT, m.GetMode())
	m, err = feed.Recv()
	require.NoError(t, err)
	assert.Equal(t, int32(1), m.GetDeletedUpToVersion())
	cancel()
	_, err = feed.Recv()
	assert.Equal(t, codes.Canceled, status.Code(err))
}
