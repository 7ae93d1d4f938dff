package sluice_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluicelog/sluice"

// layers names every room and the folders it may import besides itself. The
// longest matching name counts, so a room can be stricter than the one it is
// in. Files named _test.go may also import tests, which starts whole clusters.
//
// Think hard about the layering of the project before changing this table.
var layers = map[string][]string{
	"gen":            {},
	"internal":       {"gen"},
	"storage":        {"internal"},
	"server":         {"gen", "internal", "storage"},
	"server/auth":    {"internal"},
	"server/quota":   {"internal"},
	"server/cluster": {"gen", "internal"},
	"server/replica": {"gen", "internal", "storage", "server/cluster"},
	"server/group":   {"gen", "internal"},
	"server/txn":     {"gen", "internal"},
	"clients":        {"gen", "internal"},
	"registry":       {"gen", "internal", "clients"},
	"gateway":        {"gen", "internal", "clients"},
	"streams":        {"internal", "clients"},
	"sql":            {"internal", "clients", "streams"},
	"connect":        {"gen", "internal", "clients"},
	"mirror":         {"internal", "clients", "connect"},
	"docs":           {},
	"docs/examples":  {"gen"},
	"tools":          {"gen", "internal"},
	"cmd": {
		"gen", "internal", "storage", "server", "clients", "registry", "gateway",
		"streams", "sql", "connect", "mirror", "docs",
	},
	"tests": {
		"gen", "internal", "storage", "server", "clients", "registry", "gateway",
		"streams", "sql", "connect", "mirror",
	},
}

// owners names the only folders that may import each heavy dependency.
var owners = map[string][]string{
	"github.com/dgraph-io/badger/v4": {"storage", "streams/state"},
	"go.etcd.io/etcd":                {"server/cluster"},
	"github.com/hamba/avro/v2":       {"clients/go/serde"},
	"github.com/spf13/cobra":         {"cmd/sluice"},
}

// TestLayers reads the imports itself: a test that asked "go list" would be
// cached by "go test" and miss a change.
func TestLayers(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(path):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || !strings.Contains(path, "/"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, path, imp)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkImport reports the import of imp by the Go file at path, if it breaks a
// rule.
func checkImport(t *testing.T, path, imp string) {
	t.Helper()
	from, known := room(path)
	if !known {
		t.Errorf("%s is in no room; say in layers what it may import", path)
		return
	}
	if rel, ours := strings.CutPrefix(imp, module+"/"); ours {
		helper := within(rel, "tests") && strings.HasSuffix(path, "_test.go")
		if !helper && !within(rel, from) && !withinAny(rel, layers[from]) {
			t.Errorf("%s imports %s: %s may import only %v", path, rel, from, layers[from])
		}
	}
	for dep, folders := range owners {
		if within(imp, dep) && !withinAny(path, folders) {
			t.Errorf("%s imports %s: only %v may", path, imp, folders)
		}
	}
}

// room returns the longest name in layers that path lies in.
func room(path string) (name string, ok bool) {
	for candidate := range layers {
		if within(path, candidate) && len(candidate) > len(name) {
			name, ok = candidate, true
		}
	}
	return name, ok
}

// within reports whether path is folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func withinAny(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return within(path, f) })
}

// skipped reports whether the folder at path holds no Go of ours.
func skipped(path string) bool {
	name := filepath.Base(path)
	return name == "testdata" || name == "node_modules" || path != "." && name[0] == '.'
}
