package fault_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write docs/errors.md instead of comparing")

func TestMessageIsFilledFromMetadata(t *testing.T) {
	err := fault.OffsetMismatch.With("expected_offset", 4, "end_offset", 7)
	assert.EqualError(t, err, "expected_offset is 4, but the next offset is 7.")
}

func TestAMessageLeavesOutWhatItDoesNotKnow(t *testing.T) {
	require.EqualError(t, fault.RequestTooLarge.With(), "The request is too large.")
	require.EqualError(t, fault.RequestTooLarge.With("limit", 8, "setting", "x").Because("why"),
		"The request is too large: the limit is 8 of x: why")
	err := fault.UnknownTopicOrPartition.With("topic", "[{topic}]{partition}")
	assert.EqualError(t, err, "Topic [{topic}]{partition} not found.")
}

func TestMetadataOfACallerIsBoundedAndEscaped(t *testing.T) {
	err := fault.InvalidTopic.With("topic", "a\n\x1b[31m"+strings.Repeat("x", 10_000))
	assert.Less(t, len(err.Error()), 400)
	assert.NotContains(t, err.Error(), "\n")
	assert.NotContains(t, err.Error(), "\x1b")
}

func TestIsComparesRows(t *testing.T) {
	err := fmt.Errorf("describing: %w", fault.UnknownPartition.With("topic", "t", "partition", 9))
	require.ErrorIs(t, err, fault.UnknownPartition)
	require.ErrorIs(t, err, fault.UnknownTopicOrPartition, "the plain row of the same reason")
	require.NotErrorIs(t, err, fault.InvalidTopic)
	plain := fault.UnknownTopicOrPartition.With("topic", "t")
	assert.NotErrorIs(t, plain, fault.UnknownPartition)
}

func TestStatusCarriesExactlyOneErrorInfo(t *testing.T) {
	for _, row := range fault.All() {
		st := fault.Status(fmt.Errorf("doing: %w", row.With("topic", "t")))
		require.Equal(t, row.Code, st.Code(), row.Reason)
		infos := 0
		for _, detail := range st.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				infos++
				assert.Equal(t, row.Reason, info.GetReason())
				assert.Equal(t, fault.Domain, info.GetDomain())
				assert.Equal(t, map[string]string{"topic": "t"}, info.GetMetadata())
			}
		}
		assert.Equal(t, 1, infos, row.Reason)
	}
}

func TestAnErrorSurvivesTheWire(t *testing.T) {
	for _, row := range fault.All() {
		sent := row.With("topic", "t").At("records[3].value", "not base64").Because("why")
		if row.Variant != "" {
			sent = row.With("topic", "t", row.Variant, 3).At("a", "b")
		}
		got := fault.From(fault.Status(sent).Err())
		assert.Same(t, row, got.Fault, row.Reason)
		require.EqualError(t, got, sent.Error())
		assert.Equal(t, sent.Fields, got.Fields)
	}
}

func TestAnUnknownErrorSaysNothingOfTheInside(t *testing.T) {
	st := fault.Status(errors.New("open /secret/path: permission denied"))
	assert.Equal(t, codes.Internal, st.Code())
	assert.NotContains(t, st.Message(), "secret")
}

func TestForeignStatusesGetAReason(t *testing.T) {
	tests := map[string]struct {
		err  error
		want *fault.Fault
	}{
		"message over the limit": {
			status.Error(codes.ResourceExhausted, "received message larger than max"),
			fault.RequestTooLarge,
		},
		"unknown method":    {status.Error(codes.Unimplemented, "x"), fault.UnsupportedOperation},
		"deadline":          {context.DeadlineExceeded, fault.RequestTimedOut},
		"wrapped cancel":    {fmt.Errorf("x: %w", context.Canceled), fault.Cancelled},
		"code with no row":  {status.Error(codes.Unknown, "x"), fault.UnknownServerError},
		"connection broken": {status.Error(codes.Unavailable, "x"), fault.BrokerNotAvailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Same(t, test.want, fault.From(test.err).Fault)
			assert.Same(t, test.want, fault.From(fault.Status(test.err).Err()).Fault)
		})
	}
	assert.Nil(t, fault.From(nil))
	assert.Nil(t, fault.Status(nil))
}

// byGRPC says which refusals have no reason. server/unreadable_test.go holds the node
// against it.
const byGRPC = `
A call that gRPC itself refuses, before there is a message that could be read or a method to give
it to, has a status and no reason:

| what is wrong with the call | gRPC |
|---|---|
| a message is announced with over 4 MiB more than socket.request.max.bytes | RESOURCE_EXHAUSTED |
| a message is flagged as compressed, and the call names no grpc-encoding | INTERNAL |
| a message has a flag other than 0 and 1 | INTERNAL |
| a unary call has no message | INTERNAL |
| grpc-encoding is no compression that the node has | UNIMPLEMENTED |
| the path is not /service/method | UNIMPLEMENTED |
| grpc-timeout cannot be read | INTERNAL, HTTP 400 |
| the time of the call is over when it comes | DEADLINE_EXCEEDED |
| the content type is not application/grpc | INVALID_ARGUMENT, HTTP 415 |
| the HTTP method is not POST | INTERNAL, HTTP 405 |
`

// TestErrorsPageIsCurrent generates docs/errors.md: go test ./internal/fault -rewrite.
func TestErrorsPageIsCurrent(t *testing.T) {
	var page bytes.Buffer
	page.WriteString("# Errors\n\n" +
		"Every error names its reason: `google.rpc.ErrorInfo.reason` over gRPC, `reason` in the\n" +
		"body over HTTP. Retriable: the same call may succeed later, unchanged. This page is\n" +
		"generated from `internal/fault` by `go test ./internal/fault -rewrite`.\n\n" +
		"| reason | gRPC | HTTP | error_code | retriable | message | what to do |\n" +
		"|---|---|---|---|---|---|---|\n")
	for _, row := range fault.All() {
		retriable := "no"
		if row.Retriable {
			retriable = "yes"
		}
		fmt.Fprintf(&page, "| `%s` | %s | %d | %d | %s | %s | %s |\n", row.Reason,
			codeName(row.Code), row.HTTP, row.ErrorCode, retriable, row.Message, row.Hint)
	}
	page.WriteString(byGRPC)
	const path = "../../docs/errors.md"
	if *rewrite {
		require.NoError(t, os.WriteFile(path, page.Bytes(), 0o644))
	}
	stored, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, page.String(), string(stored), "run: go test ./internal/fault -rewrite")
}

// codeName writes a code as the gRPC documentation does, e.g. NOT_FOUND.
func codeName(code codes.Code) string {
	var name strings.Builder
	for i, r := range code.String() {
		if i > 0 && r >= 'A' && r <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(r)
	}
	return strings.ToUpper(name.String())
}
