// Package btree is the ordered index of a store: a copy-on-write B+-tree over the pages of an
// [alloc.Region], read and written through an [nvmap.Map]. It maps keys to references ([Ref]): the
// offset of a record, with flags. It knows no record, no transaction and no checkpoint; package kv
// does.
//
// # Pages
//
// A [Page] is a sorted array of keys with a common prefix. The references of a leaf are in a value
// block ([Vals]) beside it, so an update changes 1 KiB and not 4. A key over 900 bytes continues in
// overflow pages. Format: docs/format.md, "Index page".
//
// # Writing
//
// One writer at a time changes the tree. [Index.Find] finds the path to a key; [Index.Insert],
// [Index.Update] and [Index.Remove] make a change there. A page that was born in the current epoch
// is changed in place. An older one is copied first, with the pages above it, because a snapshot or
// a checkpoint may read it (I4). The caller reserves pages and blocks before it writes anything
// ([Index.Reserve], [Index.NewPlan]). The index calls Options.Retire for every page and block that
// leaves the tree.
//
// Large changes have their own methods. [Index.Survey], [Index.DetachAll], [Index.CutRest] and
// [Index.Dismantle] remove a range in whole pages. [Route] and its Linker give many leaves new
// value blocks. [Index.Relocate] moves pages. [Index.BeginPrivate] starts a build beside the
// published tree, and [Index.PublishPrivate] shows all of it at once.
//
// # Reading
//
// Readers of the current state take no lock. [Index.Lookup] and [Trail] read the version of a page
// before and after they read the page, and start again if it changed. Such a reader may see a page
// that is half written, so no method of a page panics or reads outside it. Readers of a snapshot
// ([Cursor]) need no versions, because nothing that they reach changes. Both read ahead ([Ahead]).
//
// A pointer to a page is valid within a section ([Sections]): the memory of a frame is freed only
// after all sections have ended that began before readers were turned away from it (I13).
//
// # Damage
//
// A page that was read from the device is verified once per opening: its checksum, the page number
// in it, and its birth, which its parent states. Damage is reported as a [record.CorruptError] with
// the place.
package btree
