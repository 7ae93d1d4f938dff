package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	registryFile = "registry.yaml"
	registryTag  = "Schema Registry"
	// registryURL is the server of the registry's paths. The gateway puts the
	// address in its place under which it serves the document, as it does for the
	// document's own server in overlay.yaml.
	registryURL = "http://127.0.0.1:8081"
)

// addRegistry merges the document of the schema registry, which it also serves
// itself: its paths get its server, their operations one tag, and all names a
// prefix, as some are the names of other things here. What every port has is
// left out.
func (d *document) addRegistry(part object) error {
	paths := object{}
	for path, value := range objectAt(part, "paths") {
		if path == "/" || slices.ContainsFunc([]string{"/docs", "/openapi", "/livez", "/readyz"},
			func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			continue
		}
		item, ok := renamed(value).(object)
		if !ok {
			return fmt.Errorf("%s: %s is no mapping", registryFile, path)
		}
		for verb, value := range item {
			operation, ok := value.(object)
			if !ok || verb == "parameters" {
				continue
			}
			id, _ := operation["operationId"].(string)
			if id == "" {
				return fmt.Errorf("%s: %s %s has no operationId", registryFile, verb, path)
			}
			operation["operationId"] = "registry" + strings.ToUpper(id[:1]) + id[1:]
			operation["tags"] = []any{registryTag}
		}
		item["servers"] = []any{object{
			"url": registryURL, "description": "The port of the Schema Registry.",
		}}
		paths[path] = item
	}
	components := object{}
	for kind, value := range objectAt(part, "components") {
		entries := object{}
		items, _ := value.(object)
		for _, name := range slices.Sorted(maps.Keys(items)) {
			entries["Registry"+name] = renamed(items[name])
		}
		components[kind] = entries
	}
	return d.add(registryFile, object{"paths": paths, "components": components})
}

// renamed returns a copy of a value whose references lead to the new names.
func renamed(value any) any {
	switch v := value.(type) {
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = renamed(item)
		}
		return out
	case object:
		out := object{}
		for key, item := range v {
			out[key] = renamed(item)
			if text, ok := item.(string); ok && key == "$ref" {
				at := strings.LastIndexByte(text, '/') + 1
				out[key] = text[:at] + "Registry" + text[at:]
			}
		}
		return out
	}
	return value
}
