// Package docs holds the documentation that the binary serves.
package docs

import (
	"embed"
	"io/fs"
)

//go:embed openapi/openapi.json openapi/openapi.yaml openapi/registry.yaml
var files embed.FS

// OpenAPI returns the OpenAPI 3.1 document of the HTTP API, as openapi.json and
// openapi.yaml, and that of the schema registry, as registry.yaml.
func OpenAPI() fs.FS {
	folder, err := fs.Sub(files, "openapi")
	if err != nil {
		panic(err) // the name is a constant and valid
	}
	return folder
}
