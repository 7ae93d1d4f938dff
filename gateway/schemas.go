package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/clients/go/serde"
	"github.com/sluicelog/sluice/internal/fault"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
)

// schemas asks the schema registry over gRPC. It is a serde.Source, whose
// errors have the number and text that the REST Proxy has for them.
type schemas struct {
	registry registryv1.RegistryServiceClient
	codecs   *serde.Codecs
}

func newSchemas(conn grpc.ClientConnInterface) *schemas {
	s := &schemas{registry: registryv1.NewRegistryServiceClient(conn)}
	s.codecs = serde.NewCodecs(s, serde.DefaultLimits())
	return s
}

// register registers a schema in a subject, unless it is there, and returns its
// id.
func (s *schemas) register(ctx context.Context, subject, text string) (serde.ID, error) {
	answer, err := s.registry.RegisterSchema(ctx, &registryv1.RegisterSchemaRequest{
		Subject: subject, Schema: &registryv1.Schema{Schema: text},
	})
	if err != nil {
		return 0, registerProblem(subject, err)
	}
	return serde.ID(answer.GetVersion().GetId()), nil
}

// SchemaByID returns the schema of an id with its references written out.
func (s *schemas) SchemaByID(ctx context.Context, id serde.ID) (serde.Schema, error) {
	answer, err := s.registry.GetSchema(ctx, &registryv1.GetSchemaRequest{
		Key: &registryv1.GetSchemaRequest_Id{Id: int32(id)}, Resolved: true,
	})
	if err != nil {
		return serde.Schema{}, registryProblem(err)
	}
	return serde.Schema{Text: answer.GetSchema().GetSchema()}, nil
}

// References returns nothing: SchemaByID leaves none.
func (s *schemas) References(context.Context, serde.Schema) ([]string, error) {
	return nil, nil
}

// registryProblem translates what the registry answered. The caller's own
// troubles, such as missing rights, stay what they are.
func registryProblem(err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Canceled, codes.ResourceExhausted:
		return err
	case codes.InvalidArgument:
		return invalidSchema(st.Message(), err)
	}
	return lookupFailed(st.Message(), err)
}

// lookupFailed is the error of a schema that the registry does not give.
func lookupFailed(message string, cause error) error {
	return &shaped{
		http.StatusRequestTimeout, 40801, "Schema registration or lookup failed: " + message, cause,
	}
}

// registerProblem is registryProblem for a registration, which clients know by
// its words.
func registerProblem(subject string, err error) error {
	problem := registryProblem(err)
	if failed, ok := errors.AsType[*shaped](problem); ok && failed.code == 40801 {
		failed.message = "Error when registering schema. format = AVRO, subject = " +
			clip(subject) + ": " + status.Convert(err).Message()
	}
	return problem
}

// version returns the version that a schema has in a subject, of which it must
// be: consumers that look the subject up would not find it otherwise.
func (s *schemas) version(ctx context.Context, subject string, id serde.ID) (int32, error) {
	uses, err := s.registry.ListUses(ctx, &registryv1.ListUsesRequest{
		Id: int32(id), Subject: subject,
	})
	if err != nil {
		return 0, registryProblem(err)
	}
	for _, use := range uses.GetVersions() {
		if use.GetSubject() == subject {
			return use.GetVersion(), nil
		}
	}
	return 0, lookupFailed(fmt.Sprintf("schema %d is not one of subject %s", id, clip(subject)),
		fault.Unprocessable)
}

// invalidSchema is the error of a schema that is none.
func invalidSchema(message string, cause error) error {
	if cause == nil {
		cause = fault.Unprocessable
	}
	return &shaped{http.StatusUnprocessableEntity, 42205, "Invalid schema: " + message, cause}
}

// isUnknownSchema reports whether the registry has no schema of an id, which
// asking again will not change.
func isUnknownSchema(err error) bool {
	fixed, ok := errors.AsType[*shaped](err)
	return ok && status.Code(fixed.cause) == codes.NotFound
}
