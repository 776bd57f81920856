package btree

import "nvkv/nvmap"

// Ref is the value of a key in the index: the offset of its record, a multiple of 8, with flags in
// the low bits that are needed without reading the record.
type Ref = nvmap.Off

const (
	RefSpill = 1 << 0 // the record owns runs
	RefTTL   = 1 << 1 // the record may expire
	RefHeld  = 1 << 2 // not in the index: it left without a newer record (R7)
	RefBits  = 7
)

func RefOff(r Ref) nvmap.Off { return r &^ RefBits }
