package kv

import "nvkv/alloc"

// SpaceAccount says what each byte of a store is for. The fields add up to Metrics.DeviceBytes.
//
// Held bytes are used but not part of the current index: the last checkpoint or a snapshot needs
// them, or they are tombstones, or they are reserved for the next commits. Free bytes in slabs
// include the few bytes that are left over when a slab is cut into slots.
type SpaceAccount struct {
	RecordLiveBytes int64 `json:"record_live_bytes"`
	RecordHeldBytes int64 `json:"record_held_bytes"`
	RecordFreeBytes int64 `json:"record_free_bytes"`

	IndexLiveBytes int64 `json:"index_live_bytes"` // index pages and value blocks
	IndexHeldBytes int64 `json:"index_held_bytes"` // mostly the index of the last checkpoint
	IndexFreeBytes int64 `json:"index_free_bytes"`

	RunLiveBytes int64 `json:"run_live_bytes"` // runs of pages, which hold large values
	RunHeldBytes int64 `json:"run_held_bytes"`
	RunFreeBytes int64 `json:"run_free_bytes"`

	FreeSlabBytes  int64 `json:"free_slab_bytes"`  // free slabs; after an opening some may have no blocks
	GivenBackBytes int64 `json:"given_back_bytes"` // free slabs whose blocks were given back since the opening
	MetadataBytes  int64 `json:"metadata_bytes"`   // superblocks, descriptors and maps
}

// spaceAccount returns the account of the store. The caller holds the turn.
func (db *DB) spaceAccount() SpaceAccount {
	a := db.r.Account()
	rec, run := a.Kinds[alloc.KindRecord], a.Kinds[alloc.KindRun]
	page, block := a.Kinds[alloc.KindPage], a.Kinds[alloc.KindBlock]
	return SpaceAccount{
		RecordLiveBytes: rec.LiveBytes, RecordHeldBytes: rec.HeldBytes, RecordFreeBytes: rec.FreeBytes,
		IndexLiveBytes: page.LiveBytes + block.LiveBytes, IndexHeldBytes: page.HeldBytes + block.HeldBytes,
		IndexFreeBytes: page.FreeBytes + block.FreeBytes,
		RunLiveBytes:   run.LiveBytes, RunHeldBytes: run.HeldBytes, RunFreeBytes: run.FreeBytes,
		FreeSlabBytes: a.FreeBytes, GivenBackBytes: a.GoneBytes, MetadataBytes: a.MetaBytes,
	}
}
