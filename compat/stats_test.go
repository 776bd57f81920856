package compat_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"

	"nvkv/compat"
	"nvkv/internal/effort"
)

// TestStatsAgreeWithTheKernel compares the media bytes of the engines that write with system calls
// with the kernel's count for this process.
func TestStatsAgreeWithTheKernel(t *testing.T) {
	for _, name := range []string{"bbolt", "pebble"} {
		t.Run(name, func(t *testing.T) {
			e := open(t, name, t.TempDir(), compat.Options{})
			before, kernelBefore := e.Stats(), writtenBytes(t)
			for i := range 300 {
				check(t, e.Put(fmt.Append(nil, i), bytes.Repeat([]byte("v"), 500)))
			}
			check(t, e.Flush())
			engine := e.Stats().Sub(before).MediaBytes
			kernel := writtenBytes(t) - kernelBefore
			if engine*100 < kernel*95 || kernel*100 < engine*95 {
				t.Errorf("%d bytes by the engine's count, %d by the kernel's", engine, kernel)
			}
		})
	}
}

// TestFencesOfOneWrite counts the fences of one durable write.
func TestFencesOfOneWrite(t *testing.T) {
	want := map[string]uint64{
		"nvkv":   1, // the record
		"bbolt":  2, // the pages, the meta page
		"pebble": 1, // the log
	}
	forEachEngine(t, func(t *testing.T, name string) {
		e := open(t, name, t.TempDir(), compat.Options{})
		check(t, e.Put([]byte("first"), []byte("v")))
		before := e.Stats()
		check(t, e.Put([]byte("k"), []byte("v")))
		if got := e.Stats().Sub(before).Fences; got != want[name] {
			t.Errorf("a put cost %d fences, want %d", got, want[name])
		}
		before = e.Stats()
		check(t, e.WriteBatch([]compat.Op{{Key: []byte("a")}, {Key: []byte("b")}, {Key: []byte("c")}}))
		if got := e.Stats().Sub(before).Fences; got != want[name] {
			t.Errorf("a batch cost %d fences, want %d", got, want[name])
		}
	})
}

func TestRelaxedWritesDoNotFence(t *testing.T) {
	forEachEngine(t, func(t *testing.T, name string) {
		e := open(t, name, t.TempDir(), compat.Options{Relaxed: true})
		if !slices.Contains(compat.Exceptions(e), compat.LatestMayBeLost) {
			t.Skip("this engine has no relaxed mode: every write is durable")
		}
		before := e.Stats()
		for i := range 20 {
			check(t, e.Put(fmt.Append(nil, i), []byte("v")))
		}
		if got := e.Stats().Sub(before).Fences; got != 0 {
			t.Errorf("20 relaxed puts cost %d fences", got)
		}
		check(t, e.Flush())
		if got := e.Stats().Sub(before).Fences; got == 0 {
			t.Error("Flush cost no fence")
		}
	})
}

// writtenBytes returns the bytes that this process gave to write calls.
func writtenBytes(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		effort.NotTested(t, "the kernel does not count here: %v", err)
	}
	var read, written uint64
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written); err != nil {
		t.Fatalf("/proc/self/io: %v in %q", err, text)
	}
	return written
}
