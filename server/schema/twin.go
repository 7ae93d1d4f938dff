package schema

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
)

// Twin is a Source that asks the registry over gRPC, in the same process or
// another.
type Twin struct {
	client registryv1.RegistryServiceClient
}

// NewTwin returns a Twin that calls over conn.
func NewTwin(conn grpc.ClientConnInterface) *Twin {
	return &Twin{client: registryv1.NewRegistryServiceClient(conn)}
}

// SchemaByID returns a schema with what it refers to written out.
func (t *Twin) SchemaByID(ctx context.Context, id int32) (string, []string, error) {
	answer, err := t.client.GetSchema(ctx, &registryv1.GetSchemaRequest{
		Key: &registryv1.GetSchemaRequest_Id{Id: id}, Resolved: true,
	})
	if status.Code(err) == codes.NotFound {
		return "", nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err != nil {
		return "", nil, err
	}
	return answer.GetSchema().GetSchema(), nil, nil
}
