package compat

// Stats counts an engine's work since it was opened.
//
// MediaBytes and Fences are counted by the engine, not estimated from outside:
//
//   - nvkv: bytes given to Device.Write and calls of Device.Fence.
//   - bbolt: its PageAlloc counter, every page of which a commit writes once, plus one meta page
//     per commit; two fdatasync per commit. They exclude one fsync whenever the file grows, usually
//     by 16 MiB.
//   - pebble: bytes written and syncs requested at its file system interface: log, tables, blob
//     files, manifest and directories, background work included.
//
// A delete counts its key as user bytes. In nvkv it does so only if the key existed, because
// otherwise it writes nothing.
//
// /proc/self/io has no information on an engine that stores through a mapping. A test compares it
// with the figures of bbolt and pebble.
type Stats struct {
	UserBytes  uint64 `json:"user_bytes"`  // keys and values of writes that succeeded
	MediaBytes uint64 `json:"media_bytes"` // bytes handed to the medium
	Fences     uint64 `json:"fences"`      // fences, fsyncs and fdatasyncs
}

// WriteAmplification returns media bytes per user byte, or 0 before the first
// write.
func (s Stats) WriteAmplification() float64 {
	if s.UserBytes == 0 {
		return 0
	}
	return float64(s.MediaBytes) / float64(s.UserBytes)
}

// Sub returns the difference between these counts and earlier ones.
func (s Stats) Sub(earlier Stats) Stats {
	return Stats{
		UserBytes:  s.UserBytes - earlier.UserBytes,
		MediaBytes: s.MediaBytes - earlier.MediaBytes,
		Fences:     s.Fences - earlier.Fences,
	}
}
