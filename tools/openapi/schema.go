package main

import (
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// direction says which way a message goes; it may go both.
type direction int

const (
	requests direction = 1 << iota
	responses
)

// reachable returns which way the messages of a document go, by schema name.
func reachable(d *document) map[string]direction {
	ways := map[string]direction{}
	schemas := objectAt(d.Components, "schemas")
	var visit func(value any, way direction)
	visit = func(value any, way direction) {
		switch v := value.(type) {
		case []any:
			for _, item := range v {
				visit(item, way)
			}
		case object:
			if ref, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(ref, "#/components/schemas/")
				if ways[name]&way == 0 {
					ways[name] |= way
					visit(schemas[name], way)
				}
			}
			for _, item := range v {
				visit(item, way)
			}
		}
	}
	for path := range d.Paths {
		for _, item := range objectAt(d.Paths, path) {
			operation, ok := item.(object)
			if !ok {
				continue
			}
			visit(operation["parameters"], requests)
			visit(operation["requestBody"], requests)
			visit(operation["responses"], responses)
		}
	}
	return ways
}

// correctSchemas makes every message's schema say what the gateway reads and
// writes.
func correctSchemas(schemas object, ways map[string]direction) {
	for name, item := range schemas {
		schema, ok := item.(object)
		if !ok {
			continue
		}
		if text, ok := schema["description"].(string); ok {
			schema["description"] = unwrap(text)
		}
		descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(
			protoreflect.FullName(name))
		if message, ok := descriptor.(protoreflect.MessageDescriptor); ok && err == nil {
			correctSchema(schema, message, ways[name])
		}
	}
}

// correctSchema renames the properties of a message and corrects each.
func correctSchema(schema object, message protoreflect.MessageDescriptor, way direction) {
	properties := objectAt(schema, "properties")
	renamed := object{}
	var required []any
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		property, ok := properties[field.JSONName()].(object)
		if !ok || neverWritten[field.FullName()] {
			continue
		}
		correctField(property, field, way)
		renamed[string(field.Name())] = property
		if alwaysThere(field, way) {
			required = append(required, string(field.Name()))
		}
	}
	if len(properties) > 0 {
		schema["properties"] = renamed
	}
	if way&requests != 0 {
		schema["additionalProperties"] = false // an unknown name is refused
	}
	delete(schema, "required")
	if len(required) > 0 {
		schema["required"] = required
	}
}

// alwaysWritten names fields that a general rule would take for optional, and
// whether they are always written: the gateway writes records by code of its
// own.
var alwaysWritten = map[protoreflect.FullName]bool{
	"sluice.v1.Record.key":                   true,
	"sluice.v1.Record.value":                 true,
	"sluice.v1.Record.timestamp":             true,
	"sluice.v1.FetchResponse.record_batches": false,
	// Of the types of other packages, protojson writes the set fields only.
	"google.rpc.Status.code":    false,
	"google.rpc.Status.message": false,
	"google.rpc.Status.details": false,
}

// neverWritten names fields that the gateway leaves out: it says so in a header.
var neverWritten = map[protoreflect.FullName]bool{"sluice.v1.ProduceResult.duplicate": true}

// alwaysThere reports whether a field must be sent, or is always answered.
func alwaysThere(field protoreflect.FieldDescriptor, way direction) bool {
	behaviors, _ := proto.GetExtension(field.Options(),
		annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	if way&requests != 0 {
		return slices.Contains(behaviors, annotations.FieldBehavior_REQUIRED)
	}
	if always, ok := alwaysWritten[field.FullName()]; ok {
		return always
	}
	return !field.HasPresence()
}

// correctField corrects the schema of a field.
func correctField(schema object, field protoreflect.FieldDescriptor, way direction) {
	if text, ok := schema["description"].(string); ok {
		schema["description"] = unwrap(text)
	}
	if field.IsMap() {
		return
	}
	if field.IsList() {
		schema = objectAt(schema, "items")
	}
	switch field.Kind() {
	case protoreflect.BytesKind:
		delete(schema, "format") // 3.1 says it with contentEncoding
		schema["contentEncoding"] = "base64"
		if field.HasPresence() {
			schema["type"] = []any{"string", "null"}
		}
	case protoreflect.Int64Kind:
		schema["type"] = "string"
		schema["format"] = "int64"
		schema["pattern"] = "^-?[0-9]+$"
	case protoreflect.MessageKind:
		correctWellKnown(schema, field, way)
	}
}

func correctWellKnown(schema object, field protoreflect.FieldDescriptor, way direction) {
	switch field.Message().FullName() {
	case "google.protobuf.Duration":
		schema["pattern"] = `^-?[0-9]+(\.[0-9]+)?s$`
		if way&requests != 0 {
			schema["pattern"] = `^-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
			schema["examples"] = []any{"500ms", "1.5s"}
		}
	case "google.protobuf.Timestamp":
		schema["format"] = "date-time"
		if alwaysWritten[field.FullName()] {
			schema["type"] = []any{"string", "null"}
		}
	}
}
