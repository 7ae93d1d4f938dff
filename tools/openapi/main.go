// Command openapi makes docs/openapi/openapi.json and openapi.yaml: it merges
// what protoc-gen-openapiv3 wrote into .openapi with the documents written by
// hand beside them, and lays over what the protos cannot say. Run it at the
// root of the repository, after buf generate.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

const (
	generatedDir = ".openapi"
	folder       = "docs/openapi"
)

// handwritten names the documents beside the result, in the order in which
// they are merged.
var handwritten = []string{"live.yaml", "confluent-v2.yaml", "confluent-v3.yaml", "node.yaml"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run() error {
	generated, err := mergeGenerated()
	if err != nil {
		return err
	}
	d, err := build(generated, func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(folder, name))
	})
	if err != nil {
		return err
	}
	text, err := d.json()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "openapi.json"), text, 0o644); err != nil {
		return err
	}
	if text, err = d.yaml(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "openapi.yaml"), text, 0o644)
}

// mergeGenerated returns one document of those that the plugin wrote, one for
// each proto.
func mergeGenerated() (object, error) {
	files, err := filepath.Glob(filepath.Join(generatedDir, "sluice/v1/*.openapi.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no documents: run buf generate first", generatedDir)
	}
	slices.Sort(files)
	merge := exec.Command("go", append([]string{"tool", "openapiv3-merge"}, files...)...)
	merge.Stderr = os.Stderr
	text, err := merge.Output()
	if err != nil {
		return nil, fmt.Errorf("openapiv3-merge: %w", err)
	}
	var merged object
	if err := json.Unmarshal(text, &merged); err != nil {
		return nil, fmt.Errorf("openapiv3-merge: %w", err)
	}
	return merged, nil
}

// object is a JSON object.
type object = map[string]any

// document is an OpenAPI document, in the order in which it is written.
type document struct {
	OpenAPI    string `json:"openapi" yaml:"openapi"`
	Info       any    `json:"info" yaml:"info"`
	Servers    any    `json:"servers" yaml:"servers"`
	Security   any    `json:"security" yaml:"security"`
	Tags       any    `json:"tags" yaml:"tags"`
	Paths      object `json:"paths" yaml:"paths"`
	Components object `json:"components" yaml:"components"`
}

func (d *document) json() ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(d)
	return text.Bytes(), err
}

func (d *document) yaml() ([]byte, error) {
	text := bytes.NewBufferString("# Made by go run ./tools/openapi; see openapi.json.\n")
	encoder := yaml.NewEncoder(text)
	encoder.SetIndent(2)
	if err := encoder.Encode(d); err != nil {
		return nil, err
	}
	return text.Bytes(), encoder.Close()
}

// build lays the overlay over a generated document and adds those written by
// hand. Read returns a file of docs/openapi.
func build(generated object, read func(name string) ([]byte, error)) (*document, error) {
	var over overlay
	if err := parse("overlay.yaml", read, &over); err != nil {
		return nil, err
	}
	d := &document{
		OpenAPI: "3.1.0", Info: over.Info, Servers: over.Servers, Security: over.Security,
		Paths:      objectAt(generated, "paths"),
		Components: object{"schemas": objectAt(generated, "components", "schemas")},
	}
	if err := correct(d, &over); err != nil {
		return nil, err
	}
	addCommon(d, &over)
	for _, name := range handwritten {
		part := object{}
		if err := parse(name, read, &part); err != nil {
			return nil, err
		}
		if err := d.add(name, part); err != nil {
			return nil, err
		}
	}
	part := object{}
	if err := parse(registryFile, read, &part); err != nil {
		return nil, err
	}
	return d, d.addRegistry(part)
}

// parse reads a YAML file into a value; a name that the value does not have is
// an error.
func parse(name string, read func(string) ([]byte, error), into any) error {
	text, err := read(name)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// add merges a document written by hand. Nothing may be there twice.
func (d *document) add(name string, part object) error {
	for path, item := range objectAt(part, "paths") {
		if d.Paths[path] != nil {
			return fmt.Errorf("%s: %s is there already", name, path)
		}
		d.Paths[path] = item
	}
	for kind, items := range objectAt(part, "components") {
		into := objectAt(d.Components, kind)
		entries, ok := items.(object)
		if !ok {
			return fmt.Errorf("%s: components.%s is no mapping", name, kind)
		}
		for key, item := range entries {
			if into[key] != nil {
				return fmt.Errorf("%s: components.%s.%s is there already", name, kind, key)
			}
			into[key] = item
		}
		d.Components[kind] = into
	}
	return nil
}

// objectAt returns the object at a path of names, empty where there is none.
func objectAt(from object, names ...string) object {
	for _, name := range names {
		next, ok := from[name].(object)
		if !ok {
			return object{}
		}
		from = next
	}
	return from
}
