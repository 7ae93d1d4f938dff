package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// overlay is what the protos cannot say.
type overlay struct {
	Info            object               `yaml:"info"`
	Servers         []any                `yaml:"servers"`
	Security        []any                `yaml:"security"`
	SecuritySchemes object               `yaml:"securitySchemes"`
	Tags            []tag                `yaml:"tags"`
	Operations      map[string]operation `yaml:"operations"`
}

// tag is a group of operations. Those of the service From are in it.
type tag struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	From        string `yaml:"from"`
}

// operation is what the overlay says of a method and path.
type operation struct {
	Summary     string `yaml:"summary"`
	OperationID string `yaml:"operationId"`
	Parameters  object `yaml:"parameters"` // examples by name
	Request     any    `yaml:"request"`    // an example
	Response    any    `yaml:"response"`   // an example
	// Headers names the parameters of live.yaml that the operation has too.
	Headers []string `yaml:"headers"`
}

// binding is an HTTP rule of the API.
type binding struct {
	method protoreflect.MethodDescriptor
	verb   string // such as get
	path   string
}

// bindings returns every HTTP rule of the API by "VERB path".
func bindings() map[string]binding {
	found := map[string]binding{}
	visit := func(m protoreflect.MethodDescriptor) {
		rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			return
		}
		rules := append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...)
		for _, rule := range rules {
			b := binding{method: m}
			switch {
			case rule.GetGet() != "":
				b.verb, b.path = "get", rule.GetGet()
			case rule.GetPost() != "":
				b.verb, b.path = "post", rule.GetPost()
			case rule.GetPut() != "":
				b.verb, b.path = "put", rule.GetPut()
			case rule.GetPatch() != "":
				b.verb, b.path = "patch", rule.GetPatch()
			case rule.GetDelete() != "":
				b.verb, b.path = "delete", rule.GetDelete()
			}
			found[strings.ToUpper(b.verb)+" "+b.path] = b
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage(
		sluicev1.File_sluice_v1_log_proto.Package(),
		func(file protoreflect.FileDescriptor) bool {
			for i := range file.Services().Len() {
				methods := file.Services().Get(i).Methods()
				for j := range methods.Len() {
					visit(methods.Get(j))
				}
			}
			return true
		})
	return found
}

// correct changes the generated operations and schemas to what the gateway
// does, and adds the overlay's words.
func correct(d *document, over *overlay) error {
	all := bindings()
	tags := map[string]string{}
	for _, t := range over.Tags {
		if t.From != "" {
			tags[t.From] = t.Name
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b := all[key]
		generated := objectAt(d.Paths, b.path, b.verb)
		if len(generated) == 0 {
			return fmt.Errorf("%s: the generated document lacks it", key)
		}
		words, ok := over.Operations[key]
		if !ok {
			return fmt.Errorf("overlay.yaml: operations: %s is missing", key)
		}
		name := tags[string(b.method.Parent().Name())]
		if name == "" {
			return fmt.Errorf("overlay.yaml: tags: none is from %s", b.method.Parent().Name())
		}
		generated["tags"] = []any{name}
		if err := correctOperation(generated, b, words); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for key := range over.Operations {
		if _, ok := all[key]; !ok {
			return fmt.Errorf("overlay.yaml: operations: there is no %s", key)
		}
	}
	correctSchemas(objectAt(d.Components, "schemas"), reachable(d))
	return nil
}

// correctOperation adds the overlay's words to an operation, and the permission
// and errors that its comment names.
func correctOperation(o object, b binding, words operation) error {
	text, _ := o["summary"].(string)
	errorList, _ := o["description"].(string)
	needs, _ := proto.GetExtension(b.method.Options(), sluicev1.E_Permission).(*sluicev1.Permission)
	o["summary"] = words.Summary
	o["operationId"] = words.OperationID
	o["description"] = unwrap(text) + "\n\n" + permissionText(b, needs) + "\n\n" +
		unwrap(errorList)
	if err := correctParameters(o, b, words.Parameters); err != nil {
		return err
	}
	for _, name := range words.Headers {
		list, _ := o["parameters"].([]any)
		o["parameters"] = append(list, object{"$ref": "#/components/parameters/" + name})
	}
	if body := objectAt(o, "requestBody", "content", "application/json"); len(body) > 0 {
		schema := objectAt(body, "schema")
		correctSchema(schema, b.method.Input(), requests)
		dropFields(schema, b)
		if words.Request != nil {
			body["example"] = words.Request
		}
		if len(fieldNames(schema)) == 0 {
			delete(objectAt(o, "requestBody"), "required") // an empty body will do
		}
	} else if words.Request != nil {
		return fmt.Errorf("it takes no body, but the overlay has an example of one")
	}
	answer := objectAt(o, "responses", "200", "content", "application/json")
	if words.Response == nil || len(answer) == 0 {
		return fmt.Errorf("no example of an answer")
	}
	answer["example"] = words.Response
	addErrors(o, errorList, len(objectAt(o, "requestBody")) > 0)
	return nil
}

// permissionText says what a caller must be allowed to do.
func permissionText(b binding, needs *sluicev1.Permission) string {
	kind := needs.GetResource().String()
	if segments := strings.Split(b.path, "/"); b.method.Parent().Name() == "ConfigService" &&
		segments[2] == "topics" {
		kind = sluicev1.Resource_RESOURCE_TOPIC.String()
	}
	return "Where access is controlled, a caller needs `" +
		strings.TrimPrefix(needs.GetOperation().String(), "OPERATION_") + "` on the " +
		strings.ToLower(strings.TrimPrefix(kind, "RESOURCE_")) + "."
}

// correctParameters writes the names of the query as the gateway does, and
// drops those that the path excludes.
func correctParameters(o object, b binding, examples object) error {
	var kept []any
	used := 0
	parameters, _ := o["parameters"].([]any)
	for _, item := range parameters {
		parameter, ok := item.(object)
		if !ok {
			return fmt.Errorf("a parameter is no object")
		}
		name, _ := parameter["name"].(string)
		field := b.method.Input().Fields().ByJSONName(name)
		if field == nil {
			field = b.method.Input().Fields().ByName(protoreflect.Name(name))
		}
		if field == nil {
			return fmt.Errorf("the request has no field %s", name)
		}
		if parameter["in"] == "query" && excluded(field, b) {
			continue
		}
		parameter["name"] = string(field.Name())
		schema := objectAt(parameter, "schema")
		correctField(schema, field, requests)
		if schema["type"] == "integer" && counts.MatchString(string(field.Name())) {
			schema["minimum"] = 0
		}
		if text, ok := parameter["description"].(string); ok {
			parameter["description"] = unwrap(text)
		}
		if example, ok := examples[string(field.Name())]; ok {
			parameter["example"] = example
			used++
		}
		kept = append(kept, parameter)
	}
	if used != len(examples) {
		return fmt.Errorf("the overlay has an example of a parameter that is not there")
	}
	if len(kept) == 0 {
		delete(o, "parameters")
		return nil
	}
	o["parameters"] = kept
	return nil
}

// counts matches the names of numbers that are never negative.
var counts = regexp.MustCompile("^(max|min)_|_(size|bytes|count)$")

// dropFields removes what the path says already, and alternatives to it.
func dropFields(schema object, b binding) {
	properties := objectAt(schema, "properties")
	for i := range b.method.Input().Fields().Len() {
		field := b.method.Input().Fields().Get(i)
		if excluded(field, b) || b.names(field) {
			delete(properties, string(field.Name()))
		}
	}
}

// names reports whether the path has a field.
func (b *binding) names(field protoreflect.FieldDescriptor) bool {
	return strings.Contains(b.path, "{"+string(field.Name())+"}")
}

// excluded reports whether a field is one of several of which one may be set,
// and the path says which.
func excluded(field protoreflect.FieldDescriptor, b binding) bool {
	choice := field.ContainingOneof()
	if choice == nil || choice.IsSynthetic() {
		return false
	}
	if strings.Contains(b.path, "/configs") {
		return true // a path for each kind of resource
	}
	for i := range choice.Fields().Len() {
		if b.names(choice.Fields().Get(i)) {
			return true
		}
	}
	return false
}

// unwrap joins the lines of a comment into paragraphs; items of lists keep
// their lines.
func unwrap(text string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		switch {
		case i == 0:
		case line == "" || strings.HasPrefix(line, "- ") || strings.HasSuffix(out.String(), "\n"):
			out.WriteByte('\n')
		default:
			out.WriteByte(' ')
			line = strings.TrimSpace(line)
		}
		out.WriteString(line)
	}
	return strings.TrimSpace(out.String())
}

func fieldNames(schema object) []string {
	return slices.Sorted(maps.Keys(objectAt(schema, "properties")))
}
