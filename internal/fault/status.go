package fault

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Status translates any error into the gRPC status that a caller sees. An
// error that holds no fault is INTERNAL with the reason UNKNOWN_SERVER_ERROR
// and a message that says nothing of the inside; log the original.
func Status(err error) *status.Status {
	if err == nil {
		return nil
	}
	e := classify(err)
	if e == nil {
		st, _ := status.FromError(err)
		return st
	}
	st := status.New(e.Code, e.Error())
	info := &errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain}
	if len(e.Metadata) > 0 {
		info.Metadata = make(map[string]string, len(e.Metadata))
		for _, pair := range e.Metadata {
			info.Metadata[pair.Name] = pair.Value
		}
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(info)}
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, field := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{
					Field: field.Path, Description: field.Description,
				})
		}
		details = append(details, protoadapt.MessageV1Of(bad))
	}
	if e.Code == codes.ResourceExhausted && e.Retriable {
		details = append(details, protoadapt.MessageV1Of(
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}))
	}
	full, detailErr := st.WithDetails(details...)
	if detailErr != nil {
		return st
	}
	return full
}

// classify finds the fault of err. It returns nil for an error that already is
// a gRPC status with details of its own.
func classify(err error) *Error {
	if e, ok := Of(err); ok {
		return e
	}
	if st, ok := status.FromError(err); ok {
		return fromStatus(st)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return RequestTimedOut.With()
	case errors.Is(err, context.Canceled):
		return Cancelled.With()
	}
	return UnknownServerError.With()
}

// fromStatus gives a status that the gRPC library raised itself (a message too
// large, an unknown method) its row. A status that carries an ErrorInfo
// already is left alone.
func fromStatus(st *status.Status) *Error {
	for _, detail := range st.Details() {
		if _, ok := detail.(*errdetails.ErrorInfo); ok {
			return nil
		}
	}
	rows := map[codes.Code]*Fault{
		codes.Canceled:           Cancelled,
		codes.DeadlineExceeded:   RequestTimedOut,
		codes.Unimplemented:      UnsupportedOperation,
		codes.Unavailable:        BrokerNotAvailable,
		codes.ResourceExhausted:  RequestTooLarge,
		codes.InvalidArgument:    InvalidRequest,
		codes.Unauthenticated:    AuthenticationFailed,
		codes.PermissionDenied:   AuthorizationFailed,
		codes.NotFound:           ResourceNotFound,
		codes.FailedPrecondition: InvalidRequest,
		codes.OutOfRange:         InvalidRequest,
	}
	row, ok := rows[st.Code()]
	if !ok {
		return UnknownServerError.With()
	}
	return row.Because("%s", st.Message())
}

// From translates a status that came over the wire back into the fault it was
// made of, with its metadata and message. An error that is no status, or holds
// a reason that this version doesn't know, becomes the row nearest to its code.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := Of(err); ok {
		return e
	}
	st, ok := status.FromError(err)
	if !ok {
		return classify(err)
	}
	e := &Error{}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Fault = lookup(d.GetReason(), d.GetMetadata())
			for name, value := range d.GetMetadata() {
				e.Metadata = append(e.Metadata, Pair{Name: name, Value: value})
			}
		case *errdetails.BadRequest:
			for _, violation := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, Field{
					Path: violation.GetField(), Description: violation.GetDescription(),
				})
			}
		}
	}
	if e.Fault == nil {
		return fromStatusPlain(st)
	}
	return e.said(st.Message())
}

// fromStatusPlain is fromStatus for a status whose details say nothing.
func fromStatusPlain(st *status.Status) *Error {
	if e := fromStatus(status.New(st.Code(), st.Message())); e != nil {
		return e
	}
	return UnknownServerError.With()
}

// said keeps the text that the other side wrote, whatever this version's
// catalogue would have written.
func (e *Error) said(text string) *Error {
	e.text = text
	return e
}

// HTTPStatus returns the HTTP status for an error: that of its fault, or 500.
func HTTPStatus(err error) int {
	if e := From(err); e != nil {
		return e.HTTP
	}
	return http.StatusInternalServerError
}
