package ledger

import (
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
)

// Kind is a row of the table of the registry's errors. Rows never change;
// compare them with errors.Is.
type Kind struct {
	// Code is the error_code of the REST surface.
	Code int
	// HTTP is the HTTP status.
	HTTP int
	// GRPC is the status code of the gRPC twin.
	GRPC codes.Code
	// Reason is the ErrorInfo reason of the gRPC twin.
	Reason string
	format string
}

// The errors of the registry, by error_code.
var (
	BadRequest = row(400, http.StatusBadRequest, codes.InvalidArgument,
		"BAD_REQUEST", "%s")
	NotFound = row(404, http.StatusNotFound, codes.NotFound,
		"NOT_FOUND", "HTTP 404 Not Found")
	MethodNotAllowed = row(405, http.StatusMethodNotAllowed, codes.Unimplemented,
		"METHOD_NOT_ALLOWED", "HTTP 405 Method Not Allowed")
	NotAcceptable = row(406, http.StatusNotAcceptable, codes.InvalidArgument,
		"NOT_ACCEPTABLE", "HTTP 406 Not Acceptable")
	Incompatible = row(409, http.StatusConflict, codes.FailedPrecondition,
		"INCOMPATIBLE_SCHEMA", "Schema being registered is incompatible with an earlier schema "+
			"for subject \"%s\", details: %s")
	BodyTooLarge = row(413, http.StatusRequestEntityTooLarge, codes.ResourceExhausted,
		"REQUEST_TOO_LARGE", "The request body is larger than the limit of %d bytes")
	UnsupportedType = row(415, http.StatusUnsupportedMediaType, codes.InvalidArgument,
		"UNSUPPORTED_MEDIA_TYPE", "HTTP 415 Unsupported Media Type")
	Unprocessable = row(422, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_REQUEST", "%s")
	Overloaded = row(429, http.StatusTooManyRequests, codes.ResourceExhausted,
		"TOO_MANY_REQUESTS", "Too many requests at once: the limit is %d")
	Internal = row(500, http.StatusInternalServerError, codes.Internal,
		"INTERNAL", "Internal Server Error")

	SubjectNotFound = row(40401, http.StatusNotFound, codes.NotFound,
		"SUBJECT_NOT_FOUND", "Subject '%s' not found.")
	VersionNotFound = row(40402, http.StatusNotFound, codes.NotFound,
		"VERSION_NOT_FOUND", "Version %d not found.")
	SchemaNotFound = row(40403, http.StatusNotFound, codes.NotFound,
		"SCHEMA_NOT_FOUND", "Schema not found")
	SchemaIDNotFound = row(40403, http.StatusNotFound, codes.NotFound,
		"SCHEMA_NOT_FOUND", "Schema %v not found")
	SubjectSoftDeleted = row(40404, http.StatusNotFound, codes.NotFound,
		"SUBJECT_SOFT_DELETED",
		"Subject '%s' was soft deleted.Set permanent=true to delete permanently")
	SubjectNotSoftDeleted = row(40405, http.StatusNotFound, codes.FailedPrecondition,
		"SUBJECT_NOT_SOFT_DELETED",
		"Subject '%s' was not deleted first before being permanently deleted")
	VersionSoftDeleted = row(40406, http.StatusNotFound, codes.NotFound,
		"VERSION_SOFT_DELETED",
		"Subject '%s' Version %s was soft deleted.Set permanent=true to delete permanently")
	VersionNotSoftDeleted = row(40407, http.StatusNotFound, codes.FailedPrecondition,
		"VERSION_NOT_SOFT_DELETED",
		"Subject '%s' Version %s was not deleted first before being permanently deleted")
	ConfigNotFound = row(40408, http.StatusNotFound, codes.NotFound,
		"SUBJECT_CONFIG_NOT_FOUND",
		"Subject '%s' does not have subject-level compatibility configured")
	ModeNotFound = row(40409, http.StatusNotFound, codes.NotFound,
		"SUBJECT_MODE_NOT_FOUND", "Subject '%s' does not have subject-level mode configured")

	InvalidSchema = row(42201, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_SCHEMA", "%s")
	InvalidVersion = row(42202, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_VERSION", "The specified version '%s' is not a valid version id. Allowed "+
			"values are between [1, 2^31-1] and the string \"latest\"")
	InvalidLevel = row(42203, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_COMPATIBILITY_LEVEL", "Invalid compatibility level. Valid values are none, "+
			"backward, forward, full, backward_transitive, forward_transitive, and "+
			"full_transitive")
	InvalidMode = row(42204, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_MODE", "Invalid mode. Valid values are READWRITE, READONLY, IMPORT and FORWARD.")
	NotPermitted = row(42205, http.StatusUnprocessableEntity, codes.FailedPrecondition,
		"OPERATION_NOT_PERMITTED", "%s")
	ReferenceExists = row(42206, http.StatusUnprocessableEntity, codes.FailedPrecondition,
		"REFERENCE_EXISTS", "One or more references exist to the schema "+
			"{magic=1,keytype=SCHEMA,subject=%s,version=%d}.")
	IDMismatch = row(42207, http.StatusUnprocessableEntity, codes.FailedPrecondition,
		"ID_DOES_NOT_MATCH", "Schema already registered with id %d instead of input id %d")
	InvalidSubject = row(42208, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_SUBJECT", "The specified subject '%s' is not a valid.")
	SchemaTooLarge = row(42209, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"SCHEMA_TOO_LARGE", "Register operation failed because schema is too large")
	InvalidRuleSet = row(42210, http.StatusUnprocessableEntity, codes.InvalidArgument,
		"INVALID_RULE_SET", "Invalid rule set: %s")
	ContextNotEmpty = row(42211, http.StatusUnprocessableEntity, codes.FailedPrecondition,
		"CONTEXT_NOT_EMPTY", "The specified context '%s' is not empty.")

	StoreFailed = row(50001, http.StatusInternalServerError, codes.Unavailable,
		"STORE_ERROR", "%s")
	TimedOut = row(50002, http.StatusInternalServerError, codes.DeadlineExceeded,
		"OPERATION_TIMED_OUT", "%s")
)

func row(code, status int, grpc codes.Code, reason, format string) *Kind {
	return &Kind{Code: code, HTTP: status, GRPC: grpc, Reason: reason, format: format}
}

// Error returns the row's text with nothing filled in.
func (k *Kind) Error() string { return k.format }

// With returns an error of this row; args fill its text as in fmt.Sprintf.
func (k *Kind) With(args ...any) *Problem {
	return &Problem{Kind: k, message: fmt.Sprintf(k.format, args...)}
}

// Problem is an error that a caller of the registry sees.
type Problem struct {
	*Kind
	message string
}

// Error returns the text as the REST surface shows it.
func (p *Problem) Error() string { return p.message }

// Is reports whether target is the row that this problem is of.
func (p *Problem) Is(target error) bool {
	k, ok := target.(*Kind)
	return ok && k == p.Kind
}

// ProblemOf returns the problem that err is or wraps, and false if it holds
// none.
func ProblemOf(err error) (*Problem, bool) {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p, true
	}
	if k, ok := errors.AsType[*Kind](err); ok {
		return k.With(), true
	}
	return nil, false
}
