package btree

import (
	"bytes"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A commit reserves the index pages and value blocks that its publication needs before it writes
// anything (I1). A plan computes an upper bound:
//
//   - A page that changes is copied once, with the pages above it: all pages on the paths to the
//     entries. A merge takes no page, because the page that stays is one of them.
//   - A page splits if its new entries do not fit. The plan knows the page's contents and the new
//     entries, so it can rule out most splits.
//   - A range copies the pages on the paths to its ends. Where whole pages leave, it makes an empty
//     child with the pages below it. A new entry in such a hole is inserted into an empty page, or
//     into a neighbour with which that page has merged.
//   - A long key takes overflow pages of its own. A separator does if it is cut out of a long key,
//     which happens only in a leaf that splits and has long keys.

// PlanOne returns the pages and blocks that the publication of a single entry needs at most. It
// does not look at the tree: the path is searched later, while the stores drain.
func (ix *Index) PlanOne(keyLen int, deletes bool) Stock {
	if deletes {
		return Stock{ix.height, 1}
	}
	n := Stock{ix.height + splitsOfOne*ix.height + 1 + OverflowPages(keyLen), 1 + splitsOfOne}
	if ix.hasLong || keyLen > maxInline {
		n.Pages += splitsOfOne * OverflowPages(record.MaxKeyBytes)
	}
	return n
}

// splitsOfOne is how often a page may split until one entry fits: by its number of entries, by
// bytes, and once more if the entry belongs at the end of a page that was split nine to one.
const splitsOfOne = 3

// plan adds up the pages and blocks that the publication of entries needs. Entries and ranges come
// in ascending order of keys.
type plan struct {
	Stock
	ix     *Index
	mixed  bool // there are deletes or ranges among them: pages may merge before they split
	grows  bool // more than copies of pages may be needed
	way    Path
	begun  bool
	ranged bool   // there are ranges
	high   []byte // fence above the leaf of way; nil: open
	levels [MaxHeight]incoming
	ranges []*Cutting // not planned yet
	holes  []hole     // of the current range
	within bool       // the last key lies in a range
	empty  int        // levels of the way, from the leaf up, that a hole replaces
}

// incoming is the sum of the entries that come into the page of one level of the way.
type incoming struct {
	entries, bytes int // bytes: of whole entries, not only of their keys
	most           int // size of the largest entry
	long           int // keys that take overflow pages
	longest        int // length of the longest of those keys
}

func (in *incoming) add(n, size int) {
	in.entries += n
	in.bytes += n * size
	in.most = max(in.most, size)
}

// NewPlan begins a plan for surveyed ranges and for entries. deletes says whether there are deletes
// among the entries. The tree must not change until the plan is finished.
func (ix *Index) NewPlan(ranges []*Cutting, deletes bool) *plan {
	ranged := len(ranges) > 0
	return &plan{ix: ix, ranges: ranges, mixed: deletes || ranged, grows: ranged, ranged: ranged}
}

// End returns the pages and blocks that everything planned needs at most.
func (p *plan) End() (Stock, error) {
	if err := p.passRanges(nil); err != nil {
		return p.Stock, err
	}
	if p.begun {
		p.leave(p.ix.height - 1)
	}
	return p.Stock, nil
}

// Grows says whether more than copies of pages may be needed.
func (p *plan) Grows() bool { return p.grows }

// Change is an entry of a key, which deletes it or not.
type Change struct {
	Key     []byte
	Deletes bool
	Spot    Spot // filled in if there are no ranges
}

// Add adds entries, at most Together. Their keys are looked for side by side: see
// FindTogether.
func (p *plan) Add(cs []Change) error {
	if p.ranged { // holes are on no path of the tree
		for i := range cs {
			if err := p.addBesideRanges(&cs[i]); err != nil {
				return err
			}
		}
		return nil
	}
	var keys [Together][]byte
	var ways [Together]Path
	for i := range cs {
		keys[i] = cs[i].Key
	}
	if err := p.ix.FindTogether(keys[:len(cs)], ways[:]); err != nil {
		return err
	}
	for i := range cs {
		if !p.begun || ways[i].steps[0].page != p.way.steps[0].page {
			p.goOn(&ways[i])
		}
		cs[i].Spot = ways[i].spot()
		if !cs[i].Deletes && !ways[i].found {
			p.comes(cs[i].Key)
		}
	}
	return nil
}

func (p *plan) addBesideRanges(c *Change) error {
	if err := p.passRanges(c.Key); err != nil {
		return err
	}
	if err := p.turn(c.Key); err != nil || c.Deletes {
		return err
	}
	if !p.within {
		_, found, err := p.ix.Search(p.ix.at(p.way.steps[0].page), c.Key)
		if found || err != nil {
			return err
		}
	}
	p.comes(c.Key)
	return nil
}

// comes adds an absent key to the entries that come into the leaf of the way.
func (p *plan) comes(key []byte) {
	leaf := p.ix.at(p.way.steps[0].page)
	in := &p.levels[0]
	if len(key) > maxInline {
		p.Pages += OverflowPages(len(key))
		p.grows = true
		in.long++
		in.longest = max(in.longest, len(key))
	}
	prefix := pagePrefixLen(leaf)
	if p.mixed {
		prefix = 0 // a merge may leave no prefix
	}
	in.add(1, entryBytes(leaf, inlineBytes(len(key), prefix)))
}

// passRanges plans the parts of the ranges that are not above key. nil is above all keys.
func (p *plan) passRanges(key []byte) error {
	for p.within || len(p.ranges) > 0 {
		if !p.within {
			c := p.ranges[0]
			if !reached(c.span.start, key) {
				return nil
			}
			p.within, p.holes = true, c.holes
			if err := p.turn(c.span.start); err != nil {
				return err
			}
		}
		for ; len(p.holes) > 0; p.holes = p.holes[1:] {
			if !reached(p.holes[0].low, key) {
				return nil
			}
			if err := p.turnToHole(p.holes[0]); err != nil {
				return err
			}
		}
		end := p.ranges[0].span.end
		if end == nil || !reached(end, key) {
			return nil
		}
		if err := p.turn(end); err != nil {
			return err
		}
		p.within, p.ranges = false, p.ranges[1:]
	}
	return nil
}

// reached says whether at is not above key. nil is above all keys.
func reached(at, key []byte) bool { return key == nil || bytes.Compare(at, key) <= 0 }

// inlineBytes returns the size of the cell of a key in a page.
func inlineBytes(keyLen, prefixLen int) int {
	if keyLen > maxInline {
		return longCell
	}
	return cellBytes(keyLen - prefixLen)
}

// turn moves to the leaf of key, unless the plan is there already.
func (p *plan) turn(key []byte) error {
	if p.begun && (p.high == nil || bytes.Compare(key, p.high) < 0) {
		return nil
	}
	if err := p.leaveFor(key); err != nil {
		return err
	}
	var err error
	p.high, err = p.ix.FenceAbove(&p.way, 0)
	return err
}

// turnToHole moves to a hole.
func (p *plan) turnToHole(h hole) error {
	if err := p.leaveFor(h.low); err != nil {
		return err
	}
	p.high, p.empty = h.high, h.level+1
	return nil
}

// leaveFor moves to the page of the tree to which key belongs.
func (p *plan) leaveFor(key []byte) error {
	var next Path
	if err := p.ix.Find(key, &next); err != nil {
		return err
	}
	p.goOn(&next)
	return nil
}

// goOn moves to the leaf of another way.
func (p *plan) goOn(next *Path) {
	h := p.ix.height
	if p.begun {
		same := h - 1 // levels from the root down that stay the same
		for same > 0 && next.steps[same-1].page == p.way.steps[same-1].page {
			same--
		}
		p.leave(same - 1)
	}
	copy(p.way.steps[:h], next.steps[:h])
	p.begun, p.empty = true, 0
}

// leave counts the pages of the way from the leaf up to level top. No more entries come into them.
func (p *plan) leave(top int) {
	for level := 0; level <= top; level++ {
		p.Pages++
		if level == 0 {
			p.Blocks++
		}
		splits, size := p.splits(level)
		p.grows = p.grows || splits > 0
		p.levels[level] = incoming{}
		p.Pages += splits
		if level == 0 {
			p.Blocks += splits
		}
		if level == p.ix.height-1 {
			p.grow(splits, size)
		} else {
			p.levels[level+1].add(splits, size)
		}
	}
}

// grow counts the pages above the root if the root splits.
func (p *plan) grow(splits, size int) {
	for splits > 0 {
		p.Pages++ // a new root
		entries := splits + 1
		if splits = pagesOf(entries, entries*size, size) - 1; entries*size <= nvmap.PageBytes-pgHeader {
			splits = 0
		}
		p.Pages += splits
	}
}

// pagesOf returns how many pages a number of entries takes at most after splits. bytes is their
// total size, most the size of the largest. A split in halves is even up to half an entry; after a
// split nine to one the larger part stays as it is. No page that splits has so few entries that a
// part would have only one.
func pagesOf(entries, bytes, most int) int {
	least := (nvmap.PageBytes-pgHeader-maxPrefix-most)*9/20 - most/2
	return min(bytes/least+1, max(entries/2, 1))
}

// splits returns how often the page of a level splits at most, and the size of a separator's entry
// in the page above. It also counts the overflow pages of separators.
func (p *plan) splits(level int) (n, size int) {
	in := &p.levels[level]
	pg := p.ix.at(p.way.steps[level].page)
	has, used := Count(pg), usedBytes(pg)
	if level < p.empty {
		return p.splitsOfHole(level)
	}
	const room = nvmap.PageBytes - pgHeader
	fits := used+in.bytes <= room && (level > 0 || has+in.entries <= LeafFanout)
	if in.entries == 0 || fits && !p.mixed {
		return 0, 0
	}
	if p.mixed { // pages that merge add up to three quarters of a page
		used += mergeInto
	}
	longs, longest, most := in.long, in.longest, in.most
	for i := range has {
		off, length, long := cell(pg, has, i)
		if long {
			longs++
			longest = max(longest, longKeyLen(pg, off))
		}
		most = max(most, entryBytes(pg, length))
	}
	n = pagesOf(has+in.entries, used+in.bytes, most) - 1
	once := used/2+most+maxPrefix+in.bytes <= room
	if level == 0 {
		n += (has + in.entries) / (LeafFanout / 2)
		once = once && has+in.entries <= LeafFanout
	}
	if n = min(max(n, 1), splitsOfOne*in.entries); once && !p.mixed {
		n = 1
	}
	if level == 0 {
		p.Pages += min(n, longs) * OverflowPages(longest)
	}
	// A separator is not longer than the key that it is cut out of. The prefix of the page above
	// may be shorter.
	size = most - headBytes - slotWidth + pagePrefixLen(pg)
	if longs > 0 {
		size = maxInline
	}
	return n, headBytes + slotWidth + childWidth + min(size, maxInline)
}

// splitsOfHole is splits for a page of a hole, which is empty. The page may have merged with a
// neighbour meanwhile. A few splits separate it from the neighbour's entries.
func (p *plan) splitsOfHole(level int) (n, size int) {
	in := &p.levels[level]
	if in.entries == 0 {
		return 0, 0
	}
	n = pagesOf(in.entries, in.bytes, in.most) - 1
	if level == 0 {
		n += in.entries / (LeafFanout / 2)
		p.Pages += min(n, in.long) * OverflowPages(in.longest)
	}
	size = in.most - headBytes - slotWidth
	if in.long > 0 {
		size = maxInline
	}
	n = min(n+splitsOfOne, splitsOfOne*in.entries)
	return n, headBytes + slotWidth + childWidth + min(size, maxInline)
}

// OwnedOn returns how many pages and blocks on a path are of this epoch. A change does not copy
// these.
func (ix *Index) OwnedOn(p *Path) (n Stock) {
	for level := range ix.height {
		if Birth(ix.at(p.steps[level].page)) == ix.epoch {
			n.Pages++
		}
	}
	if ValsBirth(ix.Vals(p.vals)) == ix.epoch {
		n.Blocks++
	}
	return n
}

// FenceAbove returns the upper bound, exclusive, of the keys in the page at a level of p. nil:
// open.
func (ix *Index) FenceAbove(p *Path, level int) (key []byte, err error) {
	for l := level + 1; l < ix.height && key == nil && err == nil; l++ {
		pg := ix.at(p.steps[l].page)
		if n, at := Count(pg), p.steps[l].at; at+1 < n {
			key, _, err = ix.KeyOf(pg, n, at+1)
		}
	}
	return key, err
}
