package lint

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var draw = flag.Bool("draw", false, "write docs/img/packages.svg instead of comparing it")

// layers are the packages of the drawing from the top down: what imports a package
// stands above it.
var layers = [][]string{
	{"cmd"},
	{"bench"},
	{"compat"},
	{"kv"},
	{"kv/internal/btree", "kv/internal/backup"},
	{"kv/internal/record"},
	{"alloc", "kv/internal/locks", "kv/internal/hashindex"},
	{"nvmap", "internal/crc32c", "internal/goroutine"},
	{"internal/filegate", "internal/debug", "internal/socket"},
}

// TestPackagesAreDrawn: imports go down from layer to layer, and docs/img/packages.svg
// shows them. go test ./internal/lint -run TestPackagesAreDrawn -draw writes it.
func TestPackagesAreDrawn(t *testing.T) {
	layer := map[string]int{}
	for i, names := range layers {
		for _, name := range names {
			layer[name] = i
		}
	}
	imports := importGraph(t)
	for from, tos := range imports {
		for _, to := range tos {
			if layer[from] >= layer[to] {
				t.Errorf("%s imports %s, which is not below it", from, to)
			}
		}
	}
	file := filepath.Join(root, "docs", "img", "packages.svg")
	want := drawing(imports)
	if *draw {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/img/packages.svg does not show the imports of now (%v): go test ./internal/lint -run TestPackagesAreDrawn -draw", err)
	}
}

// importGraph returns what the packages of layers import of each other, tests apart.
// cmd, bench and compat stand for all packages below them.
func importGraph(t *testing.T) map[string][]string {
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	drawn := slices.Concat(layers...)
	short := func(path string) string {
		path, _ = strings.CutPrefix(path, "nvkv/")
		if first, _, _ := strings.Cut(path, "/"); first == "cmd" || first == "bench" || first == "compat" {
			return first
		}
		return path
	}
	found := map[string]map[string]bool{}
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		from := short(paths[0])
		for _, path := range paths[1:] {
			to := short(path)
			if from == to || !strings.HasPrefix(path, "nvkv/") || !slices.Contains(drawn, from) || !slices.Contains(drawn, to) {
				continue
			}
			if found[from] == nil {
				found[from] = map[string]bool{}
			}
			found[from][to] = true
		}
	}
	imports := map[string][]string{}
	for from, tos := range found {
		imports[from] = slices.Sorted(maps.Keys(tos))
	}
	return imports
}

// Sizes in the drawing.
const (
	drawWidth, boxWidth, boxHeight, layerHeight = 640, 150, 28, 64
)

// drawing returns the graph as SVG: a box for a package, an arrow for an import.
func drawing(imports map[string][]string) []byte {
	type place struct{ x, y int }
	at := map[string]place{}
	for i, names := range layers {
		for j, name := range names {
			at[name] = place{drawWidth * (2*j + 1) / (2 * len(names)), 20 + layerHeight*i + boxHeight/2}
		}
	}
	var b bytes.Buffer
	height := 40 + layerHeight*(len(layers)-1) + boxHeight
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n", drawWidth, height)
	b.WriteString("<title>Which package imports which: all arrows go down</title>\n")
	b.WriteString("<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0,0L8,4L0,8z\" fill=\"#666\"/></marker></defs>\n")
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", drawWidth, height)
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		for _, to := range imports[from] {
			p, q := at[from], at[to]
			y1, y2 := p.y+boxHeight/2, q.y-boxHeight/2
			bend := 0
			if p.x == q.x && q.y-p.y > layerHeight { // past the boxes between
				bend = boxWidth/2 + 10*(q.y-p.y)/layerHeight
			}
			fmt.Fprintf(&b, "<path d=\"M%d,%dC%d,%d %d,%d %d,%d\" fill=\"none\" stroke=\"#666\" marker-end=\"url(#a)\"/>\n", p.x, y1, p.x+bend, y1+layerHeight/2, q.x+bend, y2-layerHeight/2, q.x, y2)
		}
	}
	for _, name := range slices.Concat(layers...) {
		p := at[name]
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\" fill=\"#eef3fa\" stroke=\"#36c\"/>\n", p.x-boxWidth/2, p.y-boxHeight/2, boxWidth, boxHeight)
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", p.x, p.y+5, name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
