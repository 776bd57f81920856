package compat

// A Counter is a count of an engine's background work. If it does not count things, its name has
// the unit: "evacuated_bytes".
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// A Housekeeper is an engine that reports its background work since it was opened. bbolt, which
// does everything inside its commits, is none.
type Housekeeper interface {
	Housekeeping() []Counter
}

// Housekeeping reports checkpoints, data moved out of sparse slabs, and space given back to the
// file system.
func (e *nvkvEngine) Housekeeping() []Counter {
	m := e.db.Metrics()
	return []Counter{
		{"checkpoints", uint64(m.Checkpoints)},
		{"evacuated_records", m.EvacuatedRecords},
		{"evacuated_bytes", m.EvacuatedBytes},
		{"discarded_bytes", uint64(m.DiscardedBytes)},
	}
}

// Housekeeping reports memtables flushed, compactions of any kind, and the bytes that both wrote
// into tables and blob files.
func (e *pebbleEngine) Housekeeping() []Counter {
	if !e.gate.enter() {
		return nil
	}
	defer e.gate.leave()
	m := e.db.Metrics()
	all := m.Total()
	return []Counter{
		{"flushes", uint64(m.Flush.Count)},
		{"compactions", uint64(m.Compact.Count)},
		{"flushed_bytes", all.TableBytesFlushed + all.BlobBytesFlushed},
		{"compacted_bytes", all.TableBytesCompacted + all.BlobBytesCompacted},
	}
}
