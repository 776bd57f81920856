package nvmap

import (
	"fmt"
	"strings"
	"unsafe"
)

// A mover is how bytes travel to memory that the CPU stores into.
//
// store copies n bytes from src to dst and sends them on their way; drain
// returns when all that this CPU sent has arrived. An aligned 8-byte word of
// dst that is written whole is stored whole, and no byte beside [dst, dst+n) is
// touched. A keyed mover opens the protection key it is given for just that
// long; 0 is no key.
type mover struct {
	name  string
	note  string // an honest limit
	keyed bool
	store func(dst, src unsafe.Pointer, n uintptr, key pkey)
	drain func()
}

// portableMover stays in the caches: on NVM whose power-failure domain they
// belong to that is enough, elsewhere it is not.
var portableMover = mover{
	name:  "copy",
	note:  "stores are not written back from the CPU's caches: a fence keeps them in order and no more",
	store: storePortable,
	drain: storeBarrier,
}

func storePortable(dst, src unsafe.Pointer, n uintptr, _ pkey) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

// movers returns what this CPU can do, the best first.
func movers() []mover { return append(archMovers(), portableMover) }

// moverNamed returns the mover of that name; "" is the best.
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
