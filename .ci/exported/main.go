// Command exported reads the packages of this module as built for Linux, with and
// without s3, and for macOS, and names each exported name that no product code uses:
// constants, variables, functions, types, fields and methods that at most tests
// reach. It fails when there is one. deadcode says the same of functions alone, and
// takes every method for reached whose type meets an interface by accident.
//
// With -count it prints how many names each package exports instead.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// builds are the configurations a name may be used in; one is enough.
var builds = []struct {
	goos string
	tags string
}{{"linux", ""}, {"linux", "s3"}, {"darwin", ""}}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Name, Dir, Export string
	GoFiles                       []string
	Standard                      bool
	Module                        *struct{ Main bool }
}

// name is an exported name, with the place it is declared at.
type name struct {
	pkg, text, at string
}

func main() {
	count := flag.Bool("count", false, "print how many names each package exports")
	flag.Parse()
	declared, used := map[string]name{}, map[string]bool{}
	for _, b := range builds {
		if err := read(b.goos, b.tags, declared, used); err != nil {
			fmt.Fprintln(os.Stderr, "exported:", err)
			os.Exit(1)
		}
	}
	if *count {
		printCounts(declared)
		return
	}
	var idle []string
	for key, n := range declared {
		if !used[key] {
			idle = append(idle, fmt.Sprintf("%s: %s", n.at, n.text))
		}
	}
	if len(idle) > 0 {
		slices.Sort(idle)
		fmt.Println("only tests, or nobody, use:")
		fmt.Println(strings.Join(idle, "\n"))
		os.Exit(1)
	}
}

func printCounts(declared map[string]name) {
	counts, all := map[string]int{}, 0
	for _, n := range declared {
		counts[n.pkg]++
		all++
	}
	var pkgs []string
	for pkg := range counts {
		pkgs = append(pkgs, pkg)
	}
	slices.Sort(pkgs)
	for _, pkg := range pkgs {
		fmt.Printf("%5d %s\n", counts[pkg], pkg)
	}
	fmt.Printf("%5d in all\n", all)
}

// read checks the types of the packages as built for goos with tags, adds the names
// they export to declared, and those that product code uses to used.
func read(goos, tags string, declared map[string]name, used map[string]bool) error {
	cmd := exec.Command("go", "list", "-export", "-deps", "-tags", tags,
		"-json=ImportPath,Name,Dir,Export,GoFiles,Standard,Module", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var own []listed
	exports := map[string]string{}
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if p.Module != nil && p.Module.Main {
			own = append(own, p) // those it imports come first
		} else {
			exports[p.ImportPath] = p.Export
		}
	}
	if err := cmd.Wait(); err != nil {
		return err
	}

	fset := token.NewFileSet()
	imports := &imports{own: map[string]*types.Package{}}
	imports.rest = importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	info := &types.Info{
		Uses:  map[*ast.Ident]types.Object{},
		Types: map[ast.Expr]types.TypeAndValue{},
	}
	for _, p := range own {
		var files []*ast.File
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, f), nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files = append(files, file)
		}
		conf := types.Config{Importer: imports, Sizes: types.SizesFor("gc", "amd64")}
		pkg, err := conf.Check(p.ImportPath, fset, files, info)
		if err != nil {
			return err
		}
		imports.own[p.ImportPath] = pkg
	}

	here, _ := os.Getwd()
	ifaces := interfaces(imports.own, info)
	for path, pkg := range imports.own {
		if pkg.Name() == "main" || strings.HasSuffix(pkg.Name(), "test") {
			continue // nobody imports it, or tests alone do as it is for them
		}
		exportedNames(pkg, func(key string, obj types.Object, byShape bool) {
			at := fset.Position(obj.Pos())
			file, _ := filepath.Rel(here, at.Filename)
			declared[key] = name{pkg: path, text: strings.TrimPrefix(key, path+"."), at: fmt.Sprintf("%s:%d", file, at.Line)}
			if byShape || meetsInterface(obj, ifaces) {
				used[key] = true
			}
		})
	}
	keys := map[types.Object]string{}
	for _, pkg := range imports.own {
		exportedNames(pkg, func(key string, obj types.Object, _ bool) { keys[obj] = key })
	}
	use := func(obj types.Object) {
		if key, ok := keys[origin(obj)]; ok {
			used[key] = true
		}
	}
	for _, obj := range info.Uses {
		use(obj)
	}
	for e := range info.Types {
		eachConverted(e, info, use)
	}
	return nil
}

// eachConverted calls use for the fields of both structs where e converts one into
// the other, which reads them without their names.
func eachConverted(e ast.Expr, info *types.Info, use func(types.Object)) {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 || !info.Types[call.Fun].IsType() {
		return
	}
	for _, t := range []types.Type{info.Types[call.Fun].Type, info.Types[call.Args[0]].Type} {
		if s, ok := t.Underlying().(*types.Struct); ok {
			for f := range s.Fields() {
				use(f)
			}
		}
	}
}

// imports finds this module's packages as checked from source, so that a name is
// one object wherever it is used, and all others by the compiler's export data.
type imports struct {
	own  map[string]*types.Package
	rest types.Importer
}

func (i *imports) Import(path string) (*types.Package, error) {
	if p := i.own[path]; p != nil {
		return p, nil
	}
	return i.rest.Import(path)
}

// origin is the declared object behind that of an instance of a generic type.
func origin(obj types.Object) types.Object {
	switch o := obj.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return obj
}

// exportedNames calls f for each name that pkg exports. byShape is true for those
// that are reached without their name: fields that encoders read, and embedded ones.
func exportedNames(pkg *types.Package, f func(key string, obj types.Object, byShape bool)) {
	scope := pkg.Scope()
	for _, n := range scope.Names() {
		obj := scope.Lookup(n)
		if !obj.Exported() {
			continue
		}
		key := pkg.Path() + "." + n
		f(key, obj, false)
		t, ok := obj.(*types.TypeName)
		if !ok || t.IsAlias() {
			continue
		}
		named := t.Type().(*types.Named)
		for m := range named.Methods() {
			if m.Exported() {
				f(key+"."+m.Name(), m, false)
			}
		}
		switch u := named.Underlying().(type) {
		case *types.Struct:
			for i := range u.NumFields() {
				if fld := u.Field(i); fld.Exported() {
					_, encoded := reflect.StructTag(u.Tag(i)).Lookup("json")
					f(key+"."+fld.Name(), fld, encoded || fld.Embedded())
				}
			}
		case *types.Interface:
			for m := range u.ExplicitMethods() {
				if m.Exported() {
					f(key+"."+m.Name(), m, false)
				}
			}
		}
	}
}

// interfaces collects every interface that own packages or those they import name
// or write out.
func interfaces(own map[string]*types.Package, info *types.Info) []*types.Interface {
	var all []*types.Interface
	add := func(t types.Type) {
		if _, isParam := t.(*types.TypeParam); isParam {
			return
		}
		if i, ok := t.Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
			all = append(all, i)
		}
	}
	seen := map[*types.Package]bool{}
	var visit func(p *types.Package)
	visit = func(p *types.Package) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, n := range p.Scope().Names() {
			if t, ok := p.Scope().Lookup(n).(*types.TypeName); ok {
				add(t.Type())
			}
		}
		for _, q := range p.Imports() {
			visit(q)
		}
	}
	for _, p := range own {
		visit(p)
	}
	for e, tv := range info.Types {
		if _, literal := e.(*ast.InterfaceType); literal {
			add(tv.Type)
		}
	}
	all = append(all, types.Universe.Lookup("error").Type().Underlying().(*types.Interface))
	return all
}

// meetsInterface reports whether obj is a method by which its type meets one of
// ifaces, so that it may be called by that interface's name.
func meetsInterface(obj types.Object, ifaces []*types.Interface) bool {
	m, ok := obj.(*types.Func)
	if !ok || m.Signature().Recv() == nil {
		return false
	}
	recv := m.Signature().Recv().Type()
	if _, isInterface := recv.Underlying().(*types.Interface); isInterface {
		return false
	}
	if p, ok := recv.(*types.Pointer); ok {
		recv = p.Elem()
	}
	for _, i := range ifaces {
		found, _, _ := types.LookupFieldOrMethod(i, false, m.Pkg(), m.Name())
		if found != nil && types.Implements(types.NewPointer(recv), i) {
			return true
		}
	}
	return false
}
