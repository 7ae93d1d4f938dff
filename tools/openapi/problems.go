package main

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"
)

// common are the errors that every operation of the API may answer with: the
// component's name and what it says, by status.
var common = map[int]struct{ name, description string }{
	http.StatusBadRequest: {
		"BadRequest",
		"The request is not valid; the message names the place, and what would be right.",
	},
	http.StatusUnauthorized: {"Unauthorized", "Credentials are missing or wrong."},
	http.StatusForbidden:    {"Forbidden", "The caller may not do this."},
	http.StatusNotFound:     {"NotFound", "There is no such thing."},
	http.StatusNotAcceptable: {
		"NotAcceptable",
		"No type that the caller accepts can be answered.",
	},
	http.StatusTooManyRequests: {
		"TooManyRequests",
		"Too much at once. Retry after the seconds in Retry-After.",
	},
	http.StatusInternalServerError: {
		"InternalServerError",
		"The node met an unexpected error; its log has it under the request id.",
	},
	http.StatusServiceUnavailable: {
		"ServiceUnavailable",
		"The node cannot answer at the moment. Retry after the seconds in Retry-After.",
	},
	http.StatusRequestEntityTooLarge: {
		"TooLarge",
		"The body is larger than http.max.request.bytes, or a batch than max.message.bytes.",
	},
	http.StatusUnsupportedMediaType: {
		"UnsupportedMediaType",
		"The Content-Type or Content-Encoding is none that the path takes.",
	},
}

// always and withBody are the common errors of operations.
var (
	always = []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusNotAcceptable, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusServiceUnavailable,
	}
	withBody = []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
)

// problemContent is the body of an error.
func problemContent() object {
	return object{"application/json": object{
		"schema": object{"$ref": "#/components/schemas/Problem"},
	}}
}

// addCommon adds the components that every operation uses, and the tags.
func addCommon(d *document, over *overlay) {
	responses := object{}
	for status, entry := range common {
		response := object{"description": entry.description, "content": problemContent()}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			response["headers"] = object{"Retry-After": object{
				"description": "Seconds to wait.", "schema": object{"type": "integer"},
			}}
		}
		responses[entry.name] = response
	}
	d.Components["responses"] = responses
	d.Components["securitySchemes"] = over.SecuritySchemes
	row := fault.UnknownTopicOrPartition
	objectAt(d.Components, "schemas")["Problem"] = object{
		"type":        "object",
		"description": "An error, on every surface.",
		"required":    []any{"error_code", "message", "reason", "details"},
		"properties": object{
			"error_code": object{
				"type": "integer", "format": "int32",
				"description": "Confluent's number, or the HTTP status where it has none.",
			},
			"message": object{"type": "string", "description": "What a person reads."},
			"reason": object{
				"type": "string",
				"description": "What a program reads: Kafka's name of the error. " +
					"docs/errors.md lists all.",
			},
			"details": object{
				"type": "array",
				"description": "google.rpc.ErrorInfo with the values of the case, " +
					"google.rpc.BadRequest with the fields that are wrong.",
				"items": object{
					"type": "object", "additionalProperties": true,
					"properties": object{"@type": object{"type": "string"}},
				},
			},
		},
		"examples": []any{object{
			"error_code": row.ErrorCode, "message": "Topic flights not found.",
			"reason": row.Reason, "details": []any{object{
				"@type":  "type.googleapis.com/google.rpc.ErrorInfo",
				"reason": row.Reason, "domain": fault.Domain,
				"metadata": object{"topic": "flights"},
			}},
		}},
	}
	var tags []any
	for _, t := range over.Tags {
		entry := object{"name": t.Name}
		if t.Description != "" {
			entry["description"] = unwrap(t.Description)
		}
		tags = append(tags, entry)
	}
	d.Tags = tags
}

var reasonName = regexp.MustCompile(`\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b`)

// optionalParts drops the marks around what a message leaves out at times.
var optionalParts = strings.NewReplacer("[", "", "]", "")

// addErrors adds the answers that an operation's comment names, with the status
// of the catalogue, and those that every operation has.
func addErrors(o object, comment string, hasBody bool) {
	answers := objectAt(o, "responses")
	statuses := always
	if hasBody {
		statuses = append(slices.Clone(always), withBody...)
	}
	for _, status := range statuses {
		answers[strconv.Itoa(status)] = object{
			"$ref": "#/components/responses/" + common[status].name,
		}
	}
	own := map[int][]string{}
	for _, reason := range reasonName.FindAllString(comment, -1) {
		for _, row := range fault.All() {
			line := fmt.Sprintf("- `%s` (%d): %s", row.Reason, row.ErrorCode,
				optionalParts.Replace(row.Message))
			if row.Reason == reason && !slices.Contains(own[row.HTTP], line) {
				own[row.HTTP] = append(own[row.HTTP], line)
			}
		}
	}
	for _, status := range slices.Sorted(maps.Keys(own)) {
		text := strings.Join(own[status], "\n")
		if shared, ok := common[status]; ok && status != http.StatusNotFound {
			text = shared.description + " Also:\n" + text
		}
		answers[strconv.Itoa(status)] = object{
			"description": text, "content": problemContent(),
		}
	}
}
