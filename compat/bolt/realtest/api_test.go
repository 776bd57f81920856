package realtest

import (
	"fmt"
	"go/types"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// exported returns what a package exports, a line each: constants with their values,
// functions and variables with their types, types with their fields and methods.
func exported(t *testing.T, dir, path string) map[string]bool {
	t.Helper()
	mode := packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedDeps | packages.NeedSyntax | packages.NeedTypesInfo
	all, err := packages.Load(&packages.Config{Mode: mode, Dir: dir}, path)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || len(all[0].Errors) > 0 || all[0].Types == nil {
		t.Fatalf("%s in %s: %v", path, dir, all[0].Errors)
	}
	names := func(p *types.Package) string { return p.Name() }
	lines := map[string]bool{}
	scope := all[0].Types.Scope()
	for _, name := range scope.Names() {
		o := scope.Lookup(name)
		if !o.Exported() {
			continue
		}
		text := types.ObjectString(o, names)
		switch o := o.(type) {
		case *types.Const:
			lines[text] = true
		case *types.TypeName:
			members(lines, o, names)
		default:
			lines[text] = true
		}
	}
	return lines
}

// members adds the fields and methods of a type that can be reached from outside.
func members(lines map[string]bool, o *types.TypeName, names types.Qualifier) {
	kind := strings.SplitN(types.TypeString(o.Type().Underlying(), names), "{", 2)[0]
	lines["type "+o.Name()+" "+kind] = true
	if s, ok := o.Type().Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				lines[fmt.Sprintf("field %s.%s %s %t", o.Name(), f.Name(), types.TypeString(f.Type(), names), f.Embedded())] = true
			}
		}
		for i := range s.NumFields() {
			if tag := s.Tag(i); tag != "" {
				lines[fmt.Sprintf("tag %s.%s %s", o.Name(), s.Field(i).Name(), tag)] = true
			}
		}
	}
	recv := o.Type()
	if !types.IsInterface(recv) {
		recv = types.NewPointer(recv)
	}
	for m := range types.NewMethodSet(recv).Methods() {
		if m.Obj().Exported() {
			lines[fmt.Sprintf("method %s.%s %s", o.Name(), m.Obj().Name(), types.TypeString(withoutNames(m.Type().(*types.Signature)), names))] = true
		}
	}
}

// withoutNames drops the names of parameters, which callers do not see.
func withoutNames(s *types.Signature) *types.Signature {
	bare := func(t *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range t.Variables() {
			vars = append(vars, types.NewVar(0, nil, "", v.Type()))
		}
		return types.NewTuple(vars...)
	}
	return types.NewSignatureType(nil, nil, nil, bare(s.Params()), bare(s.Results()), s.Variadic())
}

// TestInterface: every exported name of bbolt is there, with its type.
func TestInterface(t *testing.T) {
	for _, path := range []string{"go.etcd.io/bbolt", "go.etcd.io/bbolt/errors", "go.etcd.io/bbolt/version"} {
		real, ours := exported(t, ".", path), exported(t, "..", path)
		if len(real) == 0 {
			t.Fatalf("%s exports nothing", path)
		}
		for line := range real {
			if !ours[line] {
				t.Errorf("%s: missing: %s", path, line)
			}
		}
		for line := range ours {
			if !real[line] && line != "field Options.RefuseImport bool false" {
				t.Errorf("%s: bbolt does not have: %s", path, line)
			}
		}
		t.Logf("%s: %d names", path, len(real))
	}
}
