package kvprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"nvkv/kv"
)

// figure describes a metric: of for a single one, kinds for one that is divided.
type figure struct {
	name, help string
	value      prometheus.ValueType
	of         func(*kv.Metrics) float64
	kinds      []kind
}

// number is what the fields of kv.Metrics are.
type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

// field makes a function of a field that returns its value as it is.
func field[N number](of func(*kv.Metrics) N) func(*kv.Metrics) float64 {
	return func(m *kv.Metrics) float64 { return float64(of(m)) }
}

func seconds(of func(*kv.Metrics) time.Duration) func(*kv.Metrics) float64 {
	return func(m *kv.Metrics) float64 { return of(m).Seconds() }
}

func counter[N number](name, help string, of func(*kv.Metrics) N) figure {
	return figure{name: name, help: help, value: prometheus.CounterValue, of: field(of)}
}

func gauge[N number](name, help string, of func(*kv.Metrics) N) figure {
	return figure{name: name, help: help, value: prometheus.GaugeValue, of: field(of)}
}

// figures are all metrics apart from nvkv_up and the latencies. docs/operations.md explains what to
// watch.
var figures = []figure{
	gauge("keys", "Keys in the store, expired ones that were not yet collected included.", func(m *kv.Metrics) int64 { return m.Keys }),
	gauge("live_bytes", "Bytes that the index reaches.", func(m *kv.Metrics) int64 { return m.LiveBytes }),
	gauge("used_bytes", "Bytes in use: live ones, and those of snapshots, tombstones and reserves.", func(m *kv.Metrics) int64 { return m.UsedBytes }),
	gauge("device_bytes", "Size of the store.", func(m *kv.Metrics) int64 { return m.DeviceBytes }),
	gauge("free_bytes", "Bytes in free slabs.", func(m *kv.Metrics) int64 { return m.FreeBytes }),

	counter("puts_total", "Records put.", func(m *kv.Metrics) uint64 { return m.Puts }),
	counter("gets_total", "Point reads.", func(m *kv.Metrics) uint64 { return m.Gets }),
	counter("deletes_total", "Records deleted.", func(m *kv.Metrics) uint64 { return m.Deletes }),
	counter("expired_total", "Expired records collected.", func(m *kv.Metrics) uint64 { return m.Expired }),
	counter("commits_total", "Durable groups of writes.", func(m *kv.Metrics) uint64 { return m.Commits }),
	counter("fences_total", "Fences.", func(m *kv.Metrics) uint64 { return m.Fences }),
	counter("user_bytes_total", "Bytes of keys and values that were passed to writes.", func(m *kv.Metrics) uint64 { return m.UserBytes }),
	{name: "media_bytes_total", help: "Bytes written to the medium, by what they are.", value: prometheus.CounterValue, kinds: []kind{
		{"record", field(func(m *kv.Metrics) uint64 { return m.RecordBytes })},
		{"index", field(func(m *kv.Metrics) uint64 { return m.IndexBytes })},
		{"metadata", field(func(m *kv.Metrics) uint64 { return m.MetadataBytes })},
	}},
	counter("media_lines_total", "Lines of 64 bytes written to the medium.", func(m *kv.Metrics) uint64 { return m.MediaLines }),

	{name: "dram_bytes", help: "DRAM in use outside the Go heap's user data, by what it is for.", value: prometheus.GaugeValue, kinds: []kind{
		{"frames", field(func(m *kv.Metrics) int64 { return m.FrameBytes })},
		{"slabs", field(func(m *kv.Metrics) int64 { return m.SlabTableBytes })},
		{"hash", field(func(m *kv.Metrics) int64 { return m.HashBytes })},
		{"held", field(func(m *kv.Metrics) int64 { return m.HeldBytes })},
	}},
	gauge("dram_dirty_bytes", "Of the frames: bytes that are not on the medium yet.", func(m *kv.Metrics) int64 { return m.DirtyFrameBytes }),
	gauge("cache_limit_bytes", "Bound on the frames.", func(m *kv.Metrics) int64 { return m.CacheBytes }),
	{name: "cache_requests_total", help: "Pages looked up in frames, on devices that are not mapped, by result.", value: prometheus.CounterValue, kinds: []kind{
		{"hit", field(func(m *kv.Metrics) uint64 { return m.CacheHits })},
		{"miss", field(func(m *kv.Metrics) uint64 { return m.CacheMisses })},
	}},
	counter("cache_evictions_total", "Frames evicted.", func(m *kv.Metrics) uint64 { return m.CacheEvictions }),
	counter("cache_write_backs_total", "Pages written from frames.", func(m *kv.Metrics) uint64 { return m.CacheWriteBacks }),

	gauge("wear_max_bytes", "Bytes written into the group of slabs with the most.", func(m *kv.Metrics) int64 { return m.WearMaxBytes }),
	gauge("wear_mean_bytes", "Bytes written into a group of slabs, on average.", func(m *kv.Metrics) int64 { return m.WearMeanBytes }),

	gauge("snapshots", "Open snapshots.", func(m *kv.Metrics) int { return m.Snapshots }),
	{name: "oldest_snapshot_age_seconds", help: "Age of the oldest snapshot, 0 if there is none.", value: prometheus.GaugeValue,
		of: seconds(func(m *kv.Metrics) time.Duration { return m.OldestSnapshotAge })},
	gauge("pinned_bytes", "Old versions that snapshots hold.", func(m *kv.Metrics) int64 { return m.PinnedBytes }),

	counter("evacuated_records_total", "Records moved out of sparse slabs.", func(m *kv.Metrics) uint64 { return m.EvacuatedRecords }),
	counter("evacuated_bytes_total", "Bytes moved out of sparse slabs.", func(m *kv.Metrics) uint64 { return m.EvacuatedBytes }),
	counter("discarded_bytes_total", "Bytes given back to the file system.", func(m *kv.Metrics) int64 { return m.DiscardedBytes }),

	counter("checkpoints_total", "Checkpoints taken.", func(m *kv.Metrics) int64 { return m.Checkpoints }),
	{name: "checkpoint_seconds_total", help: "Time that checkpoints took.", value: prometheus.CounterValue,
		of: seconds(func(m *kv.Metrics) time.Duration { return m.CheckpointTime })},
	{name: "last_checkpoint_seconds", help: "Time that the last checkpoint took.", value: prometheus.GaugeValue,
		of: seconds(func(m *kv.Metrics) time.Duration { return m.LastCheckpoint })},
	gauge("since_checkpoint_bytes", "Bytes of records written since the last checkpoint.", func(m *kv.Metrics) int64 { return m.SinceCheckpoint }),
	gauge("checkpoint_every_bytes", "Bytes of records after which the next checkpoint is taken.", func(m *kv.Metrics) int64 { return m.CheckpointEvery }),
	gauge("tombstones", "Tombstones that wait for a checkpoint.", func(m *kv.Metrics) int { return m.Tombstones }),

	{name: "recovery_seconds", help: "Time that the opening took.", value: prometheus.GaugeValue,
		of: seconds(func(m *kv.Metrics) time.Duration { return m.RecoveryTime })},
	gauge("recovery_scanned_bytes", "Bytes of slabs that the opening read.", func(m *kv.Metrics) int64 { return m.RecoveryScanned }),
	{name: "recovery_records", help: "Records that the opening met, by what became of them.", value: prometheus.GaugeValue, kinds: []kind{
		{"replayed", field(func(m *kv.Metrics) int64 { return m.RecordsReplayed })},
		{"void", field(func(m *kv.Metrics) int64 { return m.RecordsVoid })},
	}},
	gauge("recovery_damage", "Damaged places that the opening met.", func(m *kv.Metrics) int { return m.RecoveryDamage }),

	gauge("index_height", "Levels of the index.", func(m *kv.Metrics) int { return m.IndexHeight }),
	gauge("index_leaves", "Leaves of the index.", func(m *kv.Metrics) int { return m.IndexLeaves }),
	gauge("read_only", "1 if the store was opened read-only.", func(m *kv.Metrics) int {
		if m.ReadOnly {
			return 1
		}
		return 0
	}),
}
