package registry

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// Domain is the ErrorInfo domain of the errors of the gRPC twin.
const Domain = "sluice.registry.v1"

// RegisterGRPC adds the gRPC twin, sluice.registry.v1, to a server.
func (r *Registry) RegisterGRPC(server grpc.ServiceRegistrar) {
	registryv1.RegisterRegistryServiceServer(server, &service{r: r})
}

// service serves RegistryService.
type service struct {
	registryv1.UnimplementedRegistryServiceServer
	r *Registry
}

// failure translates an error into the status that a caller sees.
func (s *service) failure(ctx context.Context, err error) error {
	p, ok := ledger.ProblemOf(err)
	switch {
	case ok:
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return status.FromContextError(ctx.Err()).Err()
	default:
		s.r.log.ErrorContext(ctx, "a call failed", "error", err)
		p = ledger.Internal.With()
	}
	st, err := status.New(p.GRPC, p.Error()).WithDetails(&errdetails.ErrorInfo{
		Reason: p.Reason, Domain: Domain,
		Metadata: map[string]string{"error_code": strconv.Itoa(p.Code)},
	})
	if err != nil {
		return status.Error(p.GRPC, p.Error())
	}
	return st.Err()
}

// ready waits until the registry has read its topic up to a revision.
func (s *service) ready(ctx context.Context, revision int64) error {
	if revision < 0 {
		return ledger.Unprocessable.With("min_revision is negative")
	}
	return s.r.store.wait(ctx, ledger.Revision(revision))
}

// read answers a call that changes nothing.
func read[A any](
	ctx context.Context, s *service, revision int64, answer func(*ledger.State) (A, error),
) (a A, err error) {
	if err = s.ready(ctx, revision); err == nil {
		a, err = answer(s.r.store.current())
	}
	if err != nil {
		var none A
		return none, s.failure(ctx, err)
	}
	return a, nil
}

// wrote answers a call that changes something.
func wrote[W, A any](
	ctx context.Context, s *service, w written[W], err error, answer func(W, int64) A,
) (A, error) {
	if err != nil {
		var none A
		return none, s.failure(ctx, err)
	}
	return answer(w.answer, int64(w.revision)), nil
}

// RegisterSchema registers a schema.
func (s *service) RegisterSchema(
	ctx context.Context, q *registryv1.RegisterSchemaRequest,
) (*registryv1.RegisterSchemaResponse, error) {
	request := registrationOf(q.GetSubject(), q.GetSchema(), q.GetNormalize())
	request.Force = q.GetForce()
	if q.Id != nil {
		request.ID = ledger.ID(q.GetId())
	}
	request.Version = ledger.Version(q.GetVersion())
	w, err := s.register(ctx, request, q)
	return wrote(ctx, s, w, err,
		func(a ledger.Answer, at int64) *registryv1.RegisterSchemaResponse {
			return &registryv1.RegisterSchemaResponse{Version: versionMessage(a), Revision: at}
		})
}

func (s *service) register(
	ctx context.Context, request ledger.Registration, q *registryv1.RegisterSchemaRequest,
) (written[ledger.Answer], error) {
	if q.Id != nil && q.GetId() < 1 || q.Version != nil && q.GetVersion() < 1 {
		return written[ledger.Answer]{}, ledger.Unprocessable.With("id and version are at least 1")
	}
	if err := s.ready(ctx, 0); err != nil {
		return written[ledger.Answer]{}, err
	}
	return s.r.register(ctx, request, q.GetValidateOnly())
}

// LookUpSchema finds a schema in a subject.
func (s *service) LookUpSchema(
	ctx context.Context, q *registryv1.LookUpSchemaRequest,
) (*registryv1.LookUpSchemaResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(*ledger.State) (*registryv1.LookUpSchemaResponse, error) {
			request := registrationOf(q.GetSubject(), q.GetSchema(), q.GetNormalize())
			a, err := s.r.lookup(request, q.GetIncludeDeleted())
			if err != nil {
				return nil, err
			}
			return &registryv1.LookUpSchemaResponse{Version: versionMessage(a)}, nil
		})
}

// CheckCompatibility compares a schema with what is registered.
func (s *service) CheckCompatibility(
	ctx context.Context, q *registryv1.CheckCompatibilityRequest,
) (*registryv1.CheckCompatibilityResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(*ledger.State) (*registryv1.CheckCompatibilityResponse, error) {
			if err := checkVersion(q.GetVersion()); err != nil {
				return nil, err
			}
			messages, err := s.r.check(
				registrationOf(q.GetSubject(), q.GetSchema(), q.GetNormalize()),
				ledger.Version(q.GetVersion()))
			if err != nil {
				return nil, err
			}
			return &registryv1.CheckCompatibilityResponse{
				Compatible: len(messages) == 0, Messages: messages,
			}, nil
		})
}

// checkVersion refuses numbers that stand for no version.
func checkVersion(version int32) error {
	if version < int32(ledger.Latest) {
		return ledger.InvalidVersion.With(strconv.Itoa(int(version)))
	}
	return nil
}

// newest reads a version of which 0 stands for the latest.
func newest(version int32) (ledger.Version, error) {
	if version == 0 {
		return ledger.Latest, nil
	}
	return ledger.Version(version), checkVersion(version)
}

// GetSchema returns the schema of an id or a GUID.
func (s *service) GetSchema(
	ctx context.Context, q *registryv1.GetSchemaRequest,
) (*registryv1.GetSchemaResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.GetSchemaResponse, error) {
			a, err := bySchemaKey(state, q)
			if err != nil {
				return nil, err
			}
			schema, err := s.schemaMessage(state, a, q.GetResolved())
			if err != nil {
				return nil, err
			}
			answer := &registryv1.GetSchemaResponse{
				Schema: schema, Guid: a.Content.GUID.String(),
				MaxId: int32(state.MaxID(ledger.ParseName(a.Subject).Context)),
			}
			_, keys := state.Content(a.Content.GUID)
			for _, key := range keys {
				answer.Ids = append(answer.Ids, &registryv1.ContextId{
					Context: key.Context, Id: int32(key.ID),
				})
			}
			return answer, nil
		})
}

func bySchemaKey(
	state *ledger.State, q *registryv1.GetSchemaRequest,
) (a ledger.Answer, err error) {
	if q.GetGuid() == "" {
		return state.ByID(ledger.ID(q.GetId()), q.GetSubject())
	}
	guid, ok := ledger.ParseGUID(q.GetGuid())
	if !ok {
		return a, ledger.SchemaNotFound.With()
	}
	content, keys := state.Content(guid)
	if content == nil {
		return a, ledger.SchemaIDNotFound.With(guid)
	}
	a.Content = content
	if e := state.Entry(keys[0].Context, keys[0].ID); e != nil {
		a.Subject = e.Uses[0].Subject
	}
	return a, nil
}

// GetVersion returns a version of a subject.
func (s *service) GetVersion(
	ctx context.Context, q *registryv1.GetVersionRequest,
) (*registryv1.GetVersionResponse, error) {
	return read(ctx, s, q.GetMinRevision(),
		func(state *ledger.State) (*registryv1.GetVersionResponse, error) {
			version, err := newest(q.GetVersion())
			if err != nil {
				return nil, err
			}
			a, err := state.Get(state.Alias(q.GetSubject()), version, q.GetIncludeDeleted())
			if err != nil {
				return nil, err
			}
			message := versionMessage(a)
			message.Schema, err = s.schemaMessage(state, a, q.GetResolved())
			if err != nil {
				return nil, err
			}
			return &registryv1.GetVersionResponse{Version: message}, nil
		})
}

// DeleteVersion deletes a version of a subject.
func (s *service) DeleteVersion(
	ctx context.Context, q *registryv1.DeleteVersionRequest,
) (*registryv1.DeleteVersionResponse, error) {
	asked := strconv.Itoa(int(q.GetVersion()))
	if q.GetVersion() == 0 || checkVersion(q.GetVersion()) != nil {
		return nil, s.failure(ctx, ledger.InvalidVersion.With(asked))
	}
	w, err := s.r.deleteVersion(ctx, q.GetSubject(), ledger.Version(q.GetVersion()), asked,
		q.GetPermanent())
	return wrote(ctx, s, w, err,
		func(v ledger.Version, at int64) *registryv1.DeleteVersionResponse {
			return &registryv1.DeleteVersionResponse{Version: int32(v), Revision: at}
		})
}

// DeleteSubject deletes a subject.
func (s *service) DeleteSubject(
	ctx context.Context, q *registryv1.DeleteSubjectRequest,
) (*registryv1.DeleteSubjectResponse, error) {
	w, err := s.r.deleteSubject(ctx, q.GetSubject(), q.GetPermanent())
	return wrote(ctx, s, w, err,
		func(versions []ledger.Version, at int64) *registryv1.DeleteSubjectResponse {
			answer := &registryv1.DeleteSubjectResponse{Revision: at}
			for _, v := range versions {
				answer.Versions = append(answer.Versions, int32(v))
			}
			return answer
		})
}

// DeleteContext deletes an empty context.
func (s *service) DeleteContext(
	ctx context.Context, q *registryv1.DeleteContextRequest,
) (*registryv1.DeleteContextResponse, error) {
	name, ok := ledger.ParseContext(q.GetContext())
	if !ok {
		return nil, s.failure(ctx, ledger.NotFound.With())
	}
	w, err := s.r.deleteContext(ctx, name)
	return wrote(ctx, s, w, err,
		func(_ struct{}, at int64) *registryv1.DeleteContextResponse {
			return &registryv1.DeleteContextResponse{Revision: at}
		})
}
