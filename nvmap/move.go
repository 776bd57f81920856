package nvmap

import (
	"fmt"
	"strings"
	"unsafe"
)

// A mover copies bytes to memory that the CPU stores into.
//
// store copies n bytes from src to dst and starts writing them back. drain returns when all bytes
// that this CPU stored have arrived. store writes an aligned 8-byte word of dst as one unit if the
// range covers it, and touches no byte beside [dst, dst+n). A keyed mover opens the given
// protection key for the duration of the copy; 0 is no key.
type mover struct {
	name  string
	note  string // a limit that the user should know
	keyed bool
	store func(dst, src unsafe.Pointer, n uintptr, key pkey)
	drain func()
}

// portableMover leaves bytes in the caches. That is enough only if the caches belong to the
// power-failure domain of the NVM.
var portableMover = mover{
	name:  "copy",
	note:  "stores are not written back from the CPU's caches: a fence keeps them in order and no more",
	store: storePortable,
	drain: storeBarrier,
}

func storePortable(dst, src unsafe.Pointer, n uintptr, _ pkey) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

// movers returns the movers of this CPU, the best first.
func movers() []mover { return append(archMovers(), portableMover) }

// moverNamed returns the mover with the given name. "" selects the best.
func moverNamed(name string) (mover, error) {
	all := movers()
	if name == "" {
		return all[0], nil
	}
	var names []string
	for _, m := range all {
		if m.name == name {
			return m, nil
		}
		names = append(names, m.name)
	}
	return mover{}, fmt.Errorf("no mover %q on this machine; there are %s", name, strings.Join(names, ", "))
}
