package btree

import "nvkv/nvmap"

// Ref is what the index stores for a key: the record's offset, which is a
// multiple of 8, and what must be known of it without reading it.
type Ref = nvmap.Off

const (
	RefSpill = 1 << 0 // the record owns runs
	RefTTL   = 1 << 1 // the record may expire
	RefHeld  = 1 << 2 // not in the index: it left without a newer record (R7)
	RefBits  = 7
)

func RefOff(r Ref) nvmap.Off { return r &^ RefBits }
