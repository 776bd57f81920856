package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nvkv/bench"
	"nvkv/internal/effort"
)

// sampleReport is a report of made-up figures that has every kind of run.
func sampleReport() *bench.Report {
	r := &bench.Report{Title: "sample", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Command: "nvkv bench sample <&>"}
	r.Machine = bench.Machine{CPU: "some CPU", CPUs: 2, OS: "linux/amd64", Dir: "/dev/shm", FileSystem: "tmpfs", Volatile: true, Medium: "emulated NVM, volatile"}
	speed := map[string]float64{"nvkv": 1e6, "bbolt": 3e4, "pebble": 2e5}
	for _, records := range []uint64{10_000, 1_000_000} {
		for threads := 1; threads <= 2; threads++ {
			for _, engine := range []string{"nvkv", "bbolt", "pebble"} {
				for i, workload := range []string{"load", "a", "b", "c", "d", "e", "f", "get", "update", "reopen"} {
					ops := speed[engine] * float64(threads) / float64(1+i)
					run := bench.Run{
						Engine: engine, Workload: workload, Phase: "run", Threads: threads, Records: records, Ops: 100_000,
						OpsPerS: ops, OpsPerSMin: ops * 0.9, OpsPerSMax: ops * 1.1, Repetitions: 3,
						P50: int64(5e8 / ops), P99: int64(3e9 / ops), P999: int64(1e10 / ops), Max: int64(1e11 / ops),
						ValueBytes: 100, WriteAmp: 1e6 / speed[engine], UserBytes: 1, MediaBytes: 2, Fences: 100_000, DiskBytes: 1 << 20,
						Series: &bench.Series{IntervalNs: 1e7},
					}
					for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99, 100} {
						run.Percentiles = append(run.Percentiles, bench.Percentile{Percent: p, Ns: int64((1 + p) * 1e7 / ops)})
					}
					for j := range uint64(40) {
						run.Series.Ops = append(run.Series.Ops, uint64(ops/100)+j)
					}
					if workload == "load" {
						run.Phase, run.Capped = "load", engine == "bbolt"
					}
					r.Runs = append(r.Runs, run)
				}
			}
		}
	}
	r.Runs = append(r.Runs, bench.Run{Engine: bench.FloorEngine, Workload: "copy+fence 64 B", Phase: "floor", OpsPerS: 4e6, P50: 250, P99: 300, P999: 900})
	return r
}

func mustPage(t *testing.T, r *bench.Report) string {
	t.Helper()
	var page bytes.Buffer
	if err := WriteHTML(&page, r); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

func TestPageIsSelfContainedAndComplete(t *testing.T) {
	page := mustPage(t, sampleReport())
	for _, outside := range []string{"<script", "<link", "src=", "url(", "@import", "href="} {
		if strings.Contains(page, outside) {
			t.Errorf("the page reaches outside: %s", outside)
		}
	}
	for _, want := range []string{
		"Throughput", "Write amplification", "Latency", "Throughput over time", "Scaling with threads",
		"Scaling with the size of the store", "Floors of the medium", "Every run", "emulated NVM, volatile",
		"nvkv bench sample &lt;&amp;&gt;", "5.00x", "copy&#43;fence 64 B", "prefers-color-scheme: dark", "@media print",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
	for _, standIn := range []string{hexColor(inkStandIn), hexColor(gridStandIn)} {
		if strings.Contains(page, standIn) {
			t.Errorf("a stand-in colour was left: %s", standIn)
		}
	}
	if n := strings.Count(page, "<svg"); n < 2+9+10+9+9 {
		t.Errorf("only %d plots", n)
	}
}

// TestPlotsAreWellFormed checks that every plot is well-formed, because a browser shows a malformed
// one only in part.
func TestPlotsAreWellFormed(t *testing.T) {
	page := mustPage(t, sampleReport())
	for i, part := range strings.Split(page, "<svg")[1:] {
		part, _, _ = strings.Cut(part, "</svg>")
		d := xml.NewDecoder(strings.NewReader("<svg" + part + "</svg>"))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("plot %d: %v", i, err)
			}
		}
	}
}

// TestSparseReports checks that incomplete reports give a page.
func TestSparseReports(t *testing.T) {
	full := sampleReport()
	for name, runs := range map[string][]bench.Run{
		"nothing": nil, "one run": full.Runs[:1], "floors": full.Runs[len(full.Runs)-1:],
		"zeros": {{Engine: "nvkv", Workload: "a", Phase: "run", Threads: 1}}, "one engine": full.Runs[:10],
	} {
		mustPage(t, &bench.Report{Title: name, Runs: runs})
	}
	if err := WritePlots(t.TempDir(), &bench.Report{}); err == nil {
		t.Error("plots of nothing were written")
	}
}

func TestPlotFiles(t *testing.T) {
	dir := t.TempDir()
	if err := WritePlots(dir, sampleReport()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"throughput.svg", "throughput.png", "write-amplification.svg", "write-amplification.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// browser returns a headless browser, or skips.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	effort.NotTested(t, "no browser: the report was not opened; install chromium to have it tested")
	return ""
}

// TestPageInBrowser lays out the page in a real browser, in the sizes of a desktop and of a phone.
// Nothing may extend beyond the side, no table is clipped but the last one on the phone, and the dot
// figures are as wide as the page. NVKV_SCREENSHOTS names a directory for the screenshots.
func TestPageInBrowser(t *testing.T) {
	chromium := browser(t)
	if testing.Short() {
		t.Skip("-short: the report was not opened in a browser")
	}
	dir := t.TempDir()
	keep := os.Getenv("NVKV_SCREENSHOTS")
	if keep == "" {
		keep = dir
	}
	// The probe reports in the title the properties that only a layout shows.
	probe := `<script>const d=document.documentElement;document.title="width "+d.scrollWidth+" of "+d.clientWidth+`
	probe += `" clipped "+[...document.querySelectorAll(".scroll")].filter(s=>s.scrollWidth>s.clientWidth).length+`
	probe += `" narrow "+[...document.querySelectorAll(".wide svg.plot")].filter(s=>{const w=s.getBoundingClientRect().width;return w>0&&w<0.98*(d.clientWidth-32)}).length+`
	probe += `" plots "+[...document.querySelectorAll("svg.plot")].filter(s=>s.getBoundingClientRect().height>50).length</script></body>`
	page := strings.Replace(mustPage(t, sampleReport()), "</body>", probe, 1)
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, []byte(page), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]string{"desk": "1280,4800", "phone": "390,9000"} {
		picture := filepath.Join(keep, name+".png")
		common := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + filepath.Join(dir, name), "--window-size=" + size}
		dom, err := exec.CommandContext(t.Context(), chromium, append(common, "--dump-dom", "file://"+file)...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var wide, room, clipped, narrow, plots int
		at := bytes.Index(dom, []byte("<title>width "))
		if at < 0 {
			t.Fatalf("%s: the page was not laid out", name)
		}
		if _, err := fmt.Sscanf(string(dom[at:]), "<title>width %d of %d clipped %d narrow %d plots %d", &wide, &room, &clipped, &narrow, &plots); err != nil {
			t.Fatalf("%s: %v in %.80s", name, err, dom[at:])
		}
		if wide > room {
			t.Errorf("%s: the page is %d pixels wide, there is room for %d", name, wide, room)
		}
		if want := map[string]int{"desk": 0, "phone": 1}[name]; clipped > want {
			t.Errorf("%s: %d tables are clipped", name, clipped)
		}
		if narrow > 0 {
			t.Errorf("%s: %d dot figures do not fill the width", name, narrow)
		}
		if plots < 30 {
			t.Errorf("%s: only %d plots have a height", name, plots)
		}
		if out, err := exec.CommandContext(t.Context(), chromium, append(common, "--screenshot="+picture, "file://"+file)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if info, err := os.Stat(picture); err != nil || info.Size() < 20_000 {
			t.Errorf("%s: no picture worth the name: %v", name, err)
		}
	}
}

// TestDotsApart draws engines with equal figures. Each dot must have a place of its own.
func TestDotsApart(t *testing.T) {
	r := sampleReport()
	for i := range r.Runs {
		r.Runs[i].OpsPerS, r.Runs[i].OpsPerSMin, r.Runs[i].OpsPerSMax = 1000, 900, 1100
	}
	d := dotRows{lanes: 3, rows: make([]dotRow, 2)}
	for i := range 3 {
		for j := range 3 {
			// A row has 30 points, a dot 2*dotRadius.
			if apart := math.Abs(d.lane(i)-d.lane(j)) * rowHeight; i != j && apart < float64(2*dotRadius)-1 {
				t.Errorf("lanes %d and %d are %.1f points apart", i, j, apart)
			}
		}
	}
	if high := d.lane(0)*rowHeight + float64(dotRadius); high > rowHeight/2 {
		t.Errorf("a dot reaches %.1f points above the middle of its row", high)
	}
	mustPage(t, r)
}

// TestDisturbedIsSaidOnce checks that a banner and not each cell tells of other processes.
func TestDisturbedIsSaidOnce(t *testing.T) {
	r := sampleReport()
	if strings.Contains(mustPage(t, r), "Other processes") {
		t.Error("an undisturbed report has a banner")
	}
	r.Runs[0].OtherCores = 1
	if page := mustPage(t, r); strings.Count(page, "Other processes were busy during 1 of") != 1 || !strings.Contains(page, "load of nvkv.") {
		t.Error("the banner does not name the disturbed run")
	}
	for i := range r.Runs {
		r.Runs[i].OtherCores = 1
	}
	page := mustPage(t, r)
	if strings.Count(page, "Other processes") != 1 || regexp.MustCompile(`[0-9][kMG]?!`).MatchString(page) {
		t.Error("each cell is marked, or there is no banner")
	}
}

// TestPageWords checks the words of the page: one spelling of microseconds, heads that a printer
// repeats, and no constant in a column of its own.
func TestPageWords(t *testing.T) {
	page := mustPage(t, sampleReport())
	if m := regexp.MustCompile(`[0-9] ?us\b`).FindString(page); m != "" || !strings.Contains(page, "µs") {
		t.Errorf("microseconds are written %q", m)
	}
	if tables, heads := strings.Count(page, "<table>"), strings.Count(page, "<thead>"); tables != heads || tables != 3 {
		t.Errorf("%d tables, %d heads", tables, heads)
	}
	if strings.Contains(page, "<th>threads</th>") || strings.Count(page, `class="group"`) < 4 {
		t.Error("threads, records and value have columns")
	}
	if n := strings.Count(page, `class="key"`); n != 1+2+4 {
		t.Errorf("%d legends, want one for the table and one for each section", n)
	}
}
