package callsites

import (
	"go/ast"
	"slices"
	"testing"

	"nvkv/nvmap/crashtest"
)

// TestIn finds the calls of this package's own source.
func TestIn(t *testing.T) {
	calls, err := In(".", nil, func(callee ast.Expr) bool { return IsNamed(callee, "nameOf") || IsNamed(callee, "Glob") })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range calls {
		names = append(names, c.Func)
	}
	if !slices.Equal(names, []string{"nvkv/callsites.In", "nvkv/callsites.within"}) {
		t.Errorf("%v", calls)
	}
	if _, err := In(".", []string{"callsites.go"}, func(ast.Expr) bool { return true }); err == nil {
		t.Error("a package whose only file is left aside has calls")
	}
	call := Call{"nvkv/kv.(*DB).commit", "commit.go", 7}
	for site, want := range map[crashtest.Site]bool{
		{Func: "nvkv/kv.(*DB).commit", Line: 7}:         true,
		{Func: "nvkv/kv.(*DB).commit.func1.2", Line: 7}: true,
		{Func: "nvkv/kv.(*DB).commit", Line: 8}:         false,
		{Func: "nvkv/kv.(*DB).commitGroup", Line: 7}:    false,
	} {
		if call.Reached(site) != want {
			t.Errorf("%v reached by %v: %v", call, site, !want)
		}
	}
}
