package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// codeLink is a link to a Go file, followed by a colon and the names that a reader finds there.
	codeLink = regexp.MustCompile("\\]\\(([^)\\s]+\\.go)\\): (`\\w+`(?:, `\\w+`)*)")
)

// TestLinksLead checks the relative links of the documents: the file exists, with the heading that
// the link names. A link to a Go file may be followed by names, which the file must declare.
func TestLinksLead(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d documents, %v", len(files), err)
	}
	links, names := 0, 0
	for _, file := range append(files, filepath.Join(repository, "README.md"), filepath.Join(repository, "CONTRIBUTING.md")) {
		text := string(readAll(t, file))
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			path, heading, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", filepath.Base(file), m[1])
			} else if heading != "" && !hasHeading(string(readAll(t, target)), heading) {
				t.Errorf("%s: the link %s names no heading", filepath.Base(file), m[1])
			}
		}
		for _, m := range codeLink.FindAllStringSubmatch(text, -1) {
			source := string(readAll(t, filepath.Join(filepath.Dir(file), m[1])))
			for _, name := range strings.Split(m[2], ", ") {
				names++
				name = strings.Trim(name, "`")
				if !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type )` + name + `\b`).MatchString(source) {
					t.Errorf("%s: %s does not declare %s", filepath.Base(file), m[1], name)
				}
			}
		}
	}
	if links < 50 || names < 20 {
		t.Fatalf("%d links and %d names: the documents are not read", links, names)
	}
}

func readAll(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// hasHeading says whether a document has a heading with this anchor.
func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		kept := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127:
				return r
			}
			return -1
		}, words)
		if kept == anchor {
			return true
		}
	}
	return false
}
