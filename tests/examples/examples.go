// Package examples keeps the promise that every exported name of a package has an example that
// compiles and runs.
package examples

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Check fails the test for every exported function, method, type, constant and variable of the
// package in a folder that no example of its tests uses. Only examples with an output count: go
// test runs no others. A method counts as used where one of its name is.
func Check(tb testing.TB, dir string) {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		tb.Fatal(err)
	}
	var exported []string
	used := map[string]bool{}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			tb.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			markUsed(file, used)
		} else {
			exported = append(exported, exportedNames(file)...)
		}
	}
	for _, name := range exported {
		if !used[name[strings.LastIndex(name, ".")+1:]] {
			tb.Errorf("%s has no example that runs", name)
		}
	}
	if len(exported) == 0 {
		tb.Errorf("%s exports nothing", dir)
	}
}

// markUsed notes every name that an example with an output uses.
func markUsed(file *ast.File, used map[string]bool) {
	for _, example := range doc.Examples(file) {
		if example.Output == "" && !example.EmptyOutput {
			continue
		}
		ast.Inspect(example.Code, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
}

// exportedNames returns what a file exports; methods as Type.Method.
func exportedNames(file *ast.File) []string {
	var names []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if name := funcName(d); name != "" {
				names = append(names, name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				names = append(names, specNames(spec)...)
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !ast.IsExported(name)
	})
}

// funcName returns the name of an exported function, or method of an exported type.
func funcName(d *ast.FuncDecl) string {
	if !d.Name.IsExported() {
		return ""
	}
	if d.Recv == nil {
		return d.Name.Name
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	if id, ok := receiver.(*ast.Ident); ok && id.IsExported() {
		return id.Name + "." + d.Name.Name
	}
	return ""
}

func specNames(spec ast.Spec) []string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		return []string{s.Name.Name}
	case *ast.ValueSpec:
		var names []string
		for _, id := range s.Names {
			names = append(names, id.Name)
		}
		return names
	}
	return nil
}
