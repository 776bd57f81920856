//go:build !purego

package nvmap

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"
)

// TestDrainIsSFENCE inspects the machine code, because no measurement here distinguishes a drain
// from a function that returns at once.
func TestDrainIsSFENCE(t *testing.T) {
	sfence := []byte{0x0f, 0xae, 0xf8}
	for _, m := range movers() {
		drain := m.drain
		if m.name == portableMover.name {
			continue // it promises order only, and reports that
		}
		if !bytes.Contains(codeOf(drain), sfence) {
			t.Errorf("%s: no SFENCE in its drain", m.name)
		}
	}
	if bytes.Contains(codeOf(func() {}), sfence) {
		t.Error("there is an SFENCE in a function that does nothing: the test looks at the wrong bytes")
	}
}

// codeOf returns the machine code at the beginning of f, up to its return, and the code of the
// functions that it calls. For an assembly function, Go has the address of a wrapper.
func codeOf(f func()) []byte {
	const call, ret, most = 0xe8, 0xc3, 64
	at := **(**unsafe.Pointer)(unsafe.Pointer(&f))
	code := unsafe.Slice((*byte)(at), most)
	code, _, _ = bytes.Cut(code, []byte{ret})
	out := bytes.Clone(code)
	for i := 0; i+5 <= len(code); i++ {
		if code[i] != call {
			continue
		}
		target := unsafe.Add(at, i+5+int(*(*int32)(unsafe.Pointer(&code[i+1]))))
		if fn := runtime.FuncForPC(uintptr(target)); fn != nil && fn.Entry() == uintptr(target) { // else it is not a call
			called, _, _ := bytes.Cut(unsafe.Slice((*byte)(target), most), []byte{ret})
			out = append(out, called...)
		}
	}
	return out
}
