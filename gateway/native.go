package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// native returns the transcoder of /v1, which the generated code fills.
func (g *Gateway) native() (*runtime.ServeMux, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newCodec()),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) {
			key, ok := forwarded[name]
			return key, ok
		}),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			return metadata.Pairs("x-request-id", callOf(r).id)
		}),
		runtime.WithErrorHandler(g.nativeError),
		runtime.WithRoutingErrorHandler(func(
			ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler,
			w http.ResponseWriter, r *http.Request, _ int,
		) {
			g.nativeError(ctx, mux, m, w, r, fault.ResourceNotFound)
		}),
		runtime.WithWriteContentLength(),
	)
	ctx := context.Background() // only ends the connection, which is not ours
	register := []func() error{
		func() error { return sluicev1.RegisterLogServiceHandlerClient(ctx, mux, g.streams) },
		func() error { return sluicev1.RegisterTopicServiceHandlerClient(ctx, mux, g.topics) },
		func() error { return sluicev1.RegisterConfigServiceHandlerClient(ctx, mux, g.configs) },
		func() error { return sluicev1.RegisterClusterServiceHandlerClient(ctx, mux, g.clusters) },
		func() error {
			return sluicev1.RegisterGroupServiceHandlerClient(ctx, mux,
				sluicev1.NewGroupServiceClient(g.config.Conn))
		},
		func() error {
			return sluicev1.RegisterTransactionServiceHandlerClient(ctx, mux,
				sluicev1.NewTransactionServiceClient(g.config.Conn))
		},
	}
	for _, fill := range register {
		if err := fill(); err != nil {
			return nil, fmt.Errorf("registering a service: %w", err)
		}
	}
	return mux, nil
}

// nativeError answers a call of /v1 that failed.
func (g *Gateway) nativeError(
	_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler,
	w http.ResponseWriter, r *http.Request, err error,
) {
	if b, ok := r.Body.(*body); ok && b.problem != nil {
		err = b.problem // the generated code kept only its text
	}
	out, ok := w.(*response)
	if !ok {
		out = &response{ResponseWriter: w, limits: &g.limits, surface: nativeSurface}
	}
	g.fail(out, r, err)
}

// addNative adds a route for every HTTP rule of the API's services.
func (g *Gateway) addNative(mux *runtime.ServeMux) {
	files := sluicev1.File_sluice_v1_log_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(files, func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				g.addMethod(mux, methods.Get(j))
			}
		}
		return true
	})
	slices.SortFunc(g.routes, func(a, b *route) int {
		return strings.Compare(a.pattern+a.method, b.pattern+b.method)
	})
}

func (g *Gateway) addMethod(mux *runtime.ServeMux, method protoreflect.MethodDescriptor) {
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return
	}
	for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		added := route{
			surface: nativeSurface, input: method.Input(), produces: []string{typeJSON},
			handle: func(w *response, r *http.Request, p params) {
				w.quiet = true // grpc-gateway would write an error to stderr
				if b, ok := r.Body.(*body); ok {
					b.path = p
				}
				mux.ServeHTTP(w, r)
			},
		}
		switch method.FullName() {
		case "sluice.v1.LogService.Produce":
			added.handle = g.produceNative
		case "sluice.v1.LogService.Fetch":
			added.handle = func(w *response, r *http.Request, p params) {
				g.fetchNative(w, r, p, mux)
			}
		}
		added.method, added.pattern = verbAndPath(binding)
		if binding.GetBody() != "" {
			added.consumes = []string{typeJSON}
		}
		g.add(added)
	}
}

// verbAndPath returns the method and path of an HTTP rule.
func verbAndPath(rule *annotations.HttpRule) (method, path string) {
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, pattern.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, pattern.Post
	case *annotations.HttpRule_Put:
		return http.MethodPut, pattern.Put
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, pattern.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, pattern.Delete
	}
	return "", ""
}

// checkInput refuses what the generated code would let pass: unknown and
// repeated names in the query, numbers that are no plain decimals, text that is
// not UTF-8.
func (r *route) checkInput(request *http.Request, p params) error {
	if request.URL.RawQuery == "" && r.input == nil {
		return nil
	}
	query, err := url.ParseQuery(request.URL.RawQuery)
	if err != nil {
		return fault.InvalidRequest.Because("the query is not percent-encoded: %s", err)
	}
	for name, values := range query {
		if !utf8.ValidString(name + strings.Join(values, "")) {
			return fault.InvalidRequest.Because("the query is not UTF-8")
		}
	}
	callOf(request).query = query
	if r.input == nil {
		return nil
	}
	for name, value := range p {
		field := r.input.Fields().ByName(protoreflect.Name(name))
		if err := checkNumber(name, value, field); err != nil {
			return err
		}
	}
	if r.consumes != nil && len(query) > 0 {
		return fault.InvalidRequest.Because("the path takes no query: put it into the body")
	}
	for name, values := range query {
		field := r.input.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			field = r.input.Fields().ByJSONName(name)
		}
		switch {
		case !settable(field, p):
			return fault.InvalidRequest.With().At(clip(name), "no such parameter; there are "+
				r.parameters(p))
		case len(values) > 1 && !field.IsList():
			return fault.InvalidRequest.With().At(name, "given more than once")
		}
		for _, value := range values {
			if err := checkNumber(name, value, field); err != nil {
				return err
			}
		}
	}
	return nil
}

// agrees reports a field of a body that says something else than the path, which
// would win without a word.
func (p params) agrees(body protoreflect.Message) error {
	for name, value := range p {
		field := body.Descriptor().Fields().ByName(protoreflect.Name(name))
		if field == nil {
			continue
		}
		said := field
		if choice := field.ContainingOneof(); choice != nil {
			said = body.WhichOneof(choice)
		}
		if said == nil || !body.Has(said) {
			continue
		}
		if got := body.Get(said).String(); said != field || got != value {
			return fault.InvalidRequest.With().At(string(said.Name()), fmt.Sprintf(
				"is %s, but the path says %s %s; leave it out of the body", clip(got), name,
				clip(value)))
		}
	}
	return nil
}

// settable reports whether the query may set a field: one that the path does
// not set, and no alternative to it.
func settable(field protoreflect.FieldDescriptor, p params) bool {
	if field == nil {
		return false
	}
	choice := field.ContainingOneof()
	_, fixed := p[string(field.Name())]
	return !fixed && (choice == nil || choice.IsSynthetic())
}

// parameters lists what the query may hold.
func (r *route) parameters(p params) string {
	var names []string
	for i := range r.input.Fields().Len() {
		if field := r.input.Fields().Get(i); settable(field, p) {
			names = append(names, string(field.Name()))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// checkNumber refuses an integer field that is no decimal integer of its size.
func checkNumber(name, value string, field protoreflect.FieldDescriptor) error {
	if field == nil {
		return nil
	}
	bits := 64
	switch field.Kind() {
	case protoreflect.Int32Kind:
		bits = 32
	case protoreflect.Int64Kind:
	default:
		return nil
	}
	if _, err := jsonscan.ParseInt([]byte(value), bits); err != nil {
		return fault.InvalidRequest.With().At(name, err.Error())
	}
	return nil
}

// clip bounds what an error repeats of a request.
func clip(text string) string {
	if len(text) <= 64 {
		return text
	}
	return strings.ToValidUTF8(text[:64], "") + "..."
}
