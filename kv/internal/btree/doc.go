// Package btree is the ordered index of a store: a copy-on-write B+-tree over the pages
// of an [alloc.Region], read and written through an [nvmap.Map]. It maps keys to
// references ([Ref]): the offset of a record, and what must be known of it without reading
// it. It knows no record, no transaction and no checkpoint: package kv does.
//
// # Pages
//
// A [Page] is a sorted array of keys behind a common prefix. A leaf's references stand in a
// value block ([Vals]) of its own, so that an update changes 1 KiB and not 4. A key over
// 900 bytes continues in overflow pages. Format: docs/format.md, "Index page".
//
// # Writing
//
// One writer at a time changes the tree: [Index.Find] leads to a key, and [Index.Insert],
// [Index.Update] and [Index.Remove] change it there. A page that was born in the current
// epoch changes in place; an older one is copied first, with all above it, since a
// snapshot or a checkpoint may look at it (I4). Pages and blocks are reserved before
// anything is written ([Index.Reserve], [Plan]), and what leaves the tree is told to
// Options.Retire. Large changes are verbs of their own: [Index.Survey], [Index.DetachAll],
// [Index.CutRest] and [Index.Dismantle] take out a range in whole pages, [Route] and [Linker] give many leaves
// new value blocks, [Index.Relocate] moves pages. [Index.BeginPrivate] starts a build
// beside the published tree, which [Index.PublishPrivate] shows as a whole.
//
// # Reading
//
// Readers of the current state take no lock. [Index.Lookup] and [Trail] read a page's
// version before and after, and start again where it has changed. So whatever a reader
// finds may be half written: no method of a page panics or reads outside it. Readers of a
// snapshot need no versions, because nothing that they reach changes: [Cursor]. Both read
// ahead: [Ahead].
//
// A pointer to a page is good in a section ([Sections]): a frame goes only after all
// sections have ended that had begun before (I13).
//
// # Damage
//
// A page that was read from the device is verified once an opening: its checksum, the
// place that it names, its birth as its parent states it. What does not pass is a
// [record.CorruptError] with the place.
package btree
