package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var ideaRow = regexp.MustCompile(`(?m)^\| \*\*N(\d+)\*\* \|(.*)\|(.*)\|(.*)\|$`)

// TestIdeasAreProven checks that docs/nvmap.md has a row for each of N1 to N12, in order, with a
// place and with tests that exist.
func TestIdeasAreProven(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "nvmap.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := allTests(t)
	rows := ideaRow.FindAllStringSubmatch(string(text), -1)
	if len(rows) != 12 {
		t.Fatalf("%d rows, want 12", len(rows))
	}
	for i, row := range rows {
		if row[1] != fmt.Sprint(i+1) {
			t.Errorf("row %d is of N%s", i+1, row[1])
		}
		if strings.TrimSpace(row[3]) == "" {
			t.Errorf("N%s lives nowhere", row[1])
		}
		named := testName.FindAllStringSubmatch(row[4], -1)
		if len(named) == 0 {
			t.Errorf("N%s is proven by nothing", row[1])
		}
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("N%s is proven by %s, which does not exist", row[1], m[1])
			}
		}
	}
}
