package lint

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

var traceRow = regexp.MustCompile(`(?m)^\| (\d+) \|.*\|(.*)\|$`)

// tracesOfHarm lists the counterexamples that break durability or correctness. The missing numbers
// concern performance or wording.
var tracesOfHarm = []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21",
	"24", "25", "26", "27", "28", "29", "30", "31", "33", "34"}

// TestTracesAreTold checks that docs/reliability.md lists each counterexample with tests that
// exist, one of which has its number in its name.
func TestTracesAreTold(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, cited := map[string]bool{}, map[string]string{}
	for _, pkg := range append([]string{"nvmap"}, engine...) {
		readPackage(t, pkg, tests, cited)
	}
	listed := map[string]bool{}
	for _, row := range traceRow.FindAllStringSubmatch(string(text), -1) {
		id := row[1]
		if listed[id] {
			t.Errorf("trace %s is listed twice", id)
		}
		listed[id] = true
		numbered := regexp.MustCompile(fmt.Sprintf(`^TestTrace%02s_`, id))
		has := false
		for _, m := range testName.FindAllStringSubmatch(row[2], -1) {
			if has = has || numbered.MatchString(m[1]); !tests[m[1]] {
				t.Errorf("trace %s is told by %s, which does not exist", id, m[1])
			}
		}
		if !has {
			t.Errorf("trace %s has no test of its number", id)
		}
	}
	for _, id := range tracesOfHarm {
		if !listed[id] {
			t.Errorf("trace %s is not listed, but %v are", id, slices.Sorted(maps.Keys(listed)))
		}
	}
}
