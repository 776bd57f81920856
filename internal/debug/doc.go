// Package debug says whether the program is a debug build: go build -tags nvkvdebug, or go test with
// that tag.
//
// A debug build checks the engine while it runs, and panics where a check fails:
//
//   - every index page after each change of it (kv/internal/btree),
//   - the counts and lists of a slab after each change of it, those of all slabs now and then
//     (alloc),
//   - the order in which locks are taken (kv/internal/locks).
//
// It is several times slower than other builds. There On is a constant that is false, so the
// compiler leaves the checks out.
package debug
