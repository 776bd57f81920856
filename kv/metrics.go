package kv

import (
	"time"

	"nvkv/nvmap"
)

// counts are event counters. The turn guards them.
type counts struct {
	puts, deletes, commits uint64
	userBytes, recordBytes uint64
}

// Metrics describes a store. Events are counted since it was opened.
type Metrics struct {
	Keys        int64 `json:"keys"`
	LiveBytes   int64 `json:"live_bytes"`   // slots, pages and runs that the index reaches
	UsedBytes   int64 `json:"used_bytes"`   // and those of snapshots, tombstones, reserves
	DeviceBytes int64 `json:"device_bytes"` // size of the store
	FreeBytes   int64 `json:"free_bytes"`   // in free slabs

	Account SpaceAccount `json:"account"`

	Puts      uint64 `json:"puts"`
	Gets      uint64 `json:"gets"` // Get, GetAppend, Has, in transactions too; no scans
	Deletes   uint64 `json:"deletes"`
	Expired   uint64 `json:"expired"` // expired records collected; others still count as keys
	Commits   uint64 `json:"commits"` // durable groups
	Fences    uint64 `json:"fences"`
	UserBytes uint64 `json:"user_bytes"` // keys and values passed to writes

	MediaBytes    uint64  `json:"media_bytes"`          // written to the device, all kinds
	RecordBytes   uint64  `json:"media_record_bytes"`   // of these: records and runs
	IndexBytes    uint64  `json:"media_index_bytes"`    // of these: index pages
	MetadataBytes uint64  `json:"media_metadata_bytes"` // of these: marks, maps and superblocks
	MediaLines    uint64  `json:"media_lines"`          // 64-byte lines touched
	WriteAmp      float64 `json:"write_amplification"`  // MediaBytes / UserBytes

	FrameBytes      int64  `json:"dram_frame_bytes"`  // index pages in DRAM
	DirtyFrameBytes int64  `json:"dram_dirty_bytes"`  // of these: not on the device yet
	SlabTableBytes  int64  `json:"dram_slabs_bytes"`  // the slab table, approximately
	HashBytes       int64  `json:"dram_hash_bytes"`   // the hash table
	HeldBytes       int64  `json:"dram_held_bytes"`   // lists of things that wait to be freed and of expiries, approximately
	CacheBytes      int64  `json:"cache_bytes"`       // the bound on frames
	CacheHits       uint64 `json:"cache_hits"`        // pages found in a frame, on devices that are not mapped
	CacheMisses     uint64 `json:"cache_misses"`      // pages not found in a frame
	CacheEvictions  uint64 `json:"cache_evictions"`   // frames evicted
	CacheWriteBacks uint64 `json:"cache_write_backs"` // pages written from frames

	WearGroups    int   `json:"wear_groups"`     // stretches of slabs for which wear is counted
	WearMaxBytes  int64 `json:"wear_max_bytes"`  // written into the group with the most
	WearMeanBytes int64 `json:"wear_mean_bytes"` // written into a group, on average

	Snapshots         int           `json:"snapshots"`
	OldestSnapshotAge time.Duration `json:"oldest_snapshot_age_ns"`
	PinnedBytes       int64         `json:"pinned_bytes"` // old records, index pages and value blocks that snapshots hold

	EvacuatedRecords uint64 `json:"evacuated_records"` // moved out of sparse slabs
	EvacuatedBytes   uint64 `json:"evacuated_bytes"`   // of media_record_bytes: by such moves
	DiscardedBytes   int64  `json:"discarded_bytes"`   // given back to the file system

	Checkpoints      int64         `json:"checkpoints"`
	CheckpointTime   time.Duration `json:"checkpoint_ns"`      // total
	LastCheckpoint   time.Duration `json:"last_checkpoint_ns"` // duration of the last one
	SinceCheckpoint  int64         `json:"since_checkpoint_bytes"`
	CheckpointEvery  int64         `json:"checkpoint_every_bytes"` // bytes at which the next one is taken
	Tombstones       int           `json:"tombstones"`             // waiting for a checkpoint
	RecoveryTime     time.Duration `json:"recovery_ns"`
	RecoveryScanned  int64         `json:"recovery_scanned_bytes"`
	RecordsReplayed  int64         `json:"recovery_records_replayed"`
	RecordsVoid      int64         `json:"recovery_records_void"`
	RecoveryDamage   int           `json:"recovery_damage"`
	IndexHeight      int           `json:"index_height"`
	IndexLeaves      int           `json:"index_leaves"`
	LastTransaction  uint64        `json:"last_transaction"` // run << 34 | counter
	ReadOnly         bool          `json:"read_only"`
	StoreID          string        `json:"store_id"`
	FormatGeneration uint64        `json:"generation"`
}

// Metrics returns the counters and gauges of the store. It takes the writer's turn for a moment.
// For a closed store it returns zeros.
func (db *DB) Metrics() Metrics {
	s, err := db.enterCall()
	if err != nil {
		return Metrics{}
	}
	defer s.leave()
	defer db.standstill()()
	db.publish.Lock()
	defer db.publish.Unlock()
	space, io := db.r.Stats(), db.m.Stats()
	c := &db.counts
	m := Metrics{
		Keys: db.keys, LiveBytes: space.LiveBytes, UsedBytes: space.UsedBytes, DeviceBytes: space.DeviceBytes, FreeBytes: space.FreeBytes,
		Puts: c.puts, Gets: db.pages.Gets(), Deletes: c.deletes, Expired: db.sweep.collected, Commits: c.commits, Fences: io.Fences, UserBytes: c.userBytes,
		MediaBytes: io.WriteBytes + io.WriteBackBytes, RecordBytes: c.recordBytes, IndexBytes: io.WriteBackBytes,
		MediaLines: io.WriteLines + io.WriteBackLines, FrameBytes: io.FrameBytes,
		SinceCheckpoint: db.sinceCheckpoint, CheckpointEvery: db.checkpointEvery(), Tombstones: len(db.tombs),
		RecoveryTime: db.recovered.took, RecoveryScanned: db.recovered.scanned, RecordsReplayed: db.recovered.replayed,
		RecordsVoid: db.recovered.void, RecoveryDamage: len(db.recovered.damaged),
		IndexHeight: db.ix.Height(), IndexLeaves: db.ix.Leaves(), LastTransaction: uint64(db.visible),
		EvacuatedRecords: db.evac.records, EvacuatedBytes: db.evac.bytes, DiscardedBytes: space.DiscardedBytes,
		DirtyFrameBytes: io.DirtyFrames * nvmap.PageBytes, SlabTableBytes: int64(space.Slabs) * slabTableBytes, HeldBytes: db.heldBytes(), HashBytes: db.hash.index.Bytes(),
		CacheBytes: io.CacheBytes, CacheHits: io.Hits, CacheMisses: io.Misses, CacheEvictions: io.Evictions, CacheWriteBacks: io.WriteBacks,
		WearGroups: space.Groups, WearMaxBytes: space.WearMaxBytes, WearMeanBytes: space.WearMeanBytes,
		Account: db.spaceAccount(), ReadOnly: db.opt.ReadOnly, StoreID: db.r.ID().String(),
	}
	m.MetadataBytes = io.WriteBytes - min(io.WriteBytes, c.recordBytes)
	if m.UserBytes > 0 {
		m.WriteAmp = float64(m.MediaBytes) / float64(m.UserBytes)
	}
	for h := db.holders.oldest; h != nil; h = h.newer {
		if !h.records {
			continue
		}
		if m.Snapshots++; m.Snapshots == 1 {
			m.OldestSnapshotAge = time.Since(h.opened)
		}
		m.PinnedBytes += h.pinned
	}
	cp := &db.checkpoints.stats
	m.Checkpoints, m.CheckpointTime, m.LastCheckpoint = cp.taken, cp.total, cp.last
	m.FormatGeneration = cp.generation
	return m
}

// slabTableBytes is the DRAM that package alloc takes for a slab, approximately: a struct and two
// bitmaps of a few hundred slots.
const slabTableBytes = 256

// heldBytes returns the DRAM that the lists of things to be freed take, approximately. The caller
// holds the turn and publish.
func (db *DB) heldBytes() int64 {
	n := int64(cap(db.tombs))*8 + db.sweep.bytes()
	for h := db.holders.oldest; h != nil; h = h.newer {
		n += h.deadBytes()
	}
	for _, h := range db.holders.passing {
		n += h.deadBytes()
	}
	return n + int64(cap(db.holders.held))*8
}

// deadBytes returns the DRAM that the dead lists of h take.
func (h *holder) deadBytes() int64 {
	return int64(cap(h.deadPages))*24 + int64(cap(h.deadRecords))*24
}
