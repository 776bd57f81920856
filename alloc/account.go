package alloc

// Account says what the bytes of a region are for. All of its fields together are the size of the
// region.
type Account struct {
	Kinds     [kindCount]KindAccount // slabs in use; KindFree is empty
	FreeBytes int64                  // free slabs, except those that follow
	GoneBytes int64                  // free slabs whose blocks were given back since the opening
	MetaBytes int64                  // superblocks, descriptors and maps
}

// KindAccount says what the bytes of the slabs of one kind are for.
type KindAccount struct {
	LiveBytes int64 // slots that the index reaches
	HeldBytes int64 // other used slots
	FreeBytes int64 // free slots, and what the division into slots leaves over
}

// Account returns the present account.
func (r *Region) Account() Account {
	slab := int64(r.geo.slabBytes)
	a := Account{GoneBytes: int64(r.goneSlabs) * slab}
	free := int64(r.usable)
	for k := range r.space {
		u := &r.space[k]
		a.Kinds[k] = KindAccount{LiveBytes: u.live, HeldBytes: u.used - u.live, FreeBytes: int64(u.slabs)*slab - u.used}
		free -= int64(u.slabs)
	}
	a.FreeBytes = free*slab - a.GoneBytes
	a.MetaBytes = r.geo.sizeOf(len(r.slabs)) - int64(r.usable)*slab
	return a
}

// Bytes returns the sum of a.
func (a *Account) Bytes() int64 {
	n := a.FreeBytes + a.GoneBytes + a.MetaBytes
	for _, k := range a.Kinds {
		n += k.LiveBytes + k.HeldBytes + k.FreeBytes
	}
	return n
}
