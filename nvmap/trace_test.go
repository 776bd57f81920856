package nvmap

import (
	"bytes"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Traces are histories that broke an earlier protocol. Most are tested in package kv. The traces
// here concern instructions and the medium.

// instructions returns the bodies of the routines in an assembly file, by name.
func instructions(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	routines := map[string][]string{}
	name := ""
	begin := regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
		if m := begin.FindStringSubmatch(line); m != nil {
			name = m[1]
		} else if line = strings.TrimSpace(line); name != "" && line != "" {
			routines[name] = append(routines[name], line)
		}
	}
	return routines
}

// TestTrace11_WhoCopiesDrains tests trace 11. A goroutine stores on one processor and fences on
// another, or stores for a group whose leader fences. A fence covers only the stores of its own
// processor, and on arm64 no barrier of Go's scheduler completes the cleaning of a line. So the
// store routine ends in a barrier that does, on every way out that has stored anything. (On amd64
// the scheduler's locked instructions drain. TestDrainIsSFENCE tests that a fence is an SFENCE, and
// TestFencesDrain that a PCI window drains with each write.)
func TestTrace11_WhoCopiesDrains(t *testing.T) {
	body := instructions(t, "move_arm64.s")["storeClean"]
	if len(body) == 0 {
		t.Fatal("the routine has another name")
	}
	var wait, last int
	for i, line := range body {
		switch {
		case strings.HasPrefix(line, "DSB"):
			wait = i
		case strings.HasPrefix(line, "DC "), strings.HasSuffix(line, "(R0)") && !strings.HasPrefix(line, "TST"):
			last = i
		}
	}
	if wait <= last || !strings.HasPrefix(body[len(body)-1], "RET") {
		t.Errorf("a store or a cleaning at %q has no barrier behind it", body[last])
	}
	returns := 0
	for i, line := range body {
		// Only the path that stored nothing may skip the barrier.
		if strings.HasSuffix(line, "done") && line != "done:" && (line != "CBZ  R2, done" || i > last) {
			t.Errorf("%q leads around the barrier", line)
		}
		if line == "RET" {
			returns++
		}
	}
	if returns != 1 {
		t.Errorf("%d ways out", returns)
	}
}

// TestTrace29_BarriersOfReadersAndWriters tests trace 29. LDAR orders later accesses after itself,
// not earlier ones before; STLR orders earlier accesses before itself, not later ones after. So a
// reader needs a barrier before the load that validates, and a writer needs one after the store
// that makes readers retry. amd64 needs neither. The test reads the barrier routines for arm64, and
// their callers in the source.
func TestTrace29_BarriersOfReadersAndWriters(t *testing.T) {
	arm := instructions(t, "barrier_arm64.s")
	for name, want := range map[string]string{"loadBarrier": "DMB $0x9", "storeBarrier": "DMB $0xa"} {
		if body := arm[name]; len(body) != 2 || strings.Join(strings.Fields(body[0]), " ") != want {
			t.Errorf("%s is %q, want %s and a return", name, body, want)
		}
	}
	source, err := os.ReadFile("map.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, order := range map[string]string{
		"ReadValid":   `(?s)loadBarrier\(\).*atomic\.Load`,
		"BeginChange": `(?s)atomic\.Or.*storeBarrier\(\)`,
	} {
		_, body, ok := bytes.Cut(source, []byte(") "+name+"("))
		body, _, ok2 := bytes.Cut(body, []byte("\n}"))
		if !ok || !ok2 || !regexp.MustCompile(order).Match(body) {
			t.Errorf("%s has its barrier in another place: %s", name, body)
		}
	}
}

// TestTrace19_NeighboursOfAWrite tests trace 19. Records share sectors and pages with records that
// were acknowledged earlier. A crash during a write must leave the neighbouring bytes as they were,
// with lines, sectors and pages as the unit, because the store relies on that.
func TestTrace19_NeighboursOfAWrite(t *testing.T) {
	mustDo := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(19, 1))
	for _, model := range []Model{Lines, Sectors, Pages} {
		sim := NewSim(NewMem(1 << 20))
		sim.SetModel(model)
		mustDo(sim.Grow(64 << 10))
		durable := make([]byte, 64<<10)
		for i := range durable {
			durable[i] = byte(rng.Uint32())
		}
		mustDo(sim.Write(0, durable))
		mustDo(sim.Fence())
		for range 200 {
			from := rng.IntN(len(durable) - 9000)
			p := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(9000))
			mustDo(sim.Write(Off(from), p))
			for im := range sim.Images(rng.Uint64(), 12) {
				got := make([]byte, len(durable))
				mustDo(im.Device().Read(0, got))
				if !bytes.Equal(got[:from&^7], durable[:from&^7]) {
					t.Fatalf("%v: bytes before a write of %d at %d are not as they were, in %v", model, len(p), from, im)
				}
				if end := from + len(p); !bytes.Equal(got[end:], durable[end:]) || !bytes.Equal(got[from&^7:from], durable[from&^7:from]) {
					t.Fatalf("%v: bytes beside a write of %d at %d are not as they were, in %v", model, len(p), from, im)
				}
			}
			mustDo(sim.Fence())
			copy(durable[from:], p)
		}
		mustDo(sim.Close())
	}
	// Info must report this.
	for _, kind := range []string{"file", "block"} {
		dev, err := OpenDevice(t.TempDir()+"/d", OpenOptions{Kind: kind, Create: true})
		if err != nil {
			t.Logf("%s is not to be had here: %v", kind, err)
			continue
		}
		if info := dev.Info(); info.Sector < 512 || info.Note == "" {
			t.Errorf("%s promises more than a disk does: %+v", kind, info)
		}
		mustDo(dev.Close())
	}
}
