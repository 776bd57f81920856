package record

import "testing"

// TestNumber: a number returns its run and its counter, and numbers are ordered by them.
func TestNumber(t *testing.T) {
	var last Number
	for _, run := range []uint32{1, 2, 255, 1 << 20, MaxRun} {
		for _, counter := range []uint64{0, 1, 1 << 33, MaxCounter} {
			n := MakeNumber(run, counter)
			if n.Run() != run || n.Counter() != counter {
				t.Errorf("run %d, counter %d: came back as %d, %d", run, counter, n.Run(), n.Counter())
			}
			if n <= last {
				t.Errorf("%d, %d is not above the one before", run, counter)
			}
			last = n
		}
	}
}

// TestNearRun: a number with one wrong byte is near. With two wrong bytes it is not, unless they
// are in the counter.
func TestNearRun(t *testing.T) {
	n := MakeNumber(0x12345, 6)
	for at := range 8 {
		for bits := 1; bits < 256; bits++ {
			if wrong := n ^ Number(bits)<<(8*at); !wrong.NearRun(0x12345) {
				t.Fatalf("%x is not near", wrong)
			}
		}
	}
	if (n ^ 1<<40 ^ 1<<50).NearRun(0x12345) {
		t.Error("two wrong bytes of the run are near")
	}
	if !(n ^ 1<<40 ^ 1<<20).NearRun(0x12345) {
		t.Error("a wrong byte of the run, beside another counter, is not near")
	}
}
