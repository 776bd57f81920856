package btree

import (
	"bytes"

	"nvkv/kv/internal/record"
	"nvkv/nvmap"
)

// A commit reserves the index pages and value blocks that publishing it takes,
// before it writes anything (I1). What that is at most, its plan says:
//
//   - A page that changes is copied once, and all above it: those on the ways to
//     the entries. A merge takes none, since the page that stays is one of them.
//   - A page splits when what comes into it does not fit. Its plan has what it
//     holds and what will come, so that most pages are known not to split.
//   - A range copies the pages on the ways to its ends, and makes an empty child where
//     whole pages leave, with what is below it. What comes into such a hole comes into
//     an empty page, or into a neighbour with which that has merged.
//   - A long key takes overflow pages of its own, and a separator does where it is
//     cut out of a long key: only in a leaf that splits and has long keys.

// PlanOne returns what publishing a single entry takes at most, one that deletes or
// another, without a look at the tree: its path is found later, while the stores drain.
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

// splitsOfOne is how often a page may split for one entry to fit: by its number of
// entries, by bytes, and once more where the entry belongs at the end of a page
// that was split nine to one.
const splitsOfOne = 3

// plan collects what publishing entries takes. They come in the order of keys, and so do
// the ranges.
type plan struct {
	Stock
	ix     *Index
	mixed  bool // deletes or ranges among them: pages may merge before they split
	grows  bool // more than copies of pages may be taken
	way    Path
	begun  bool
	ranged bool   // there are ranges
	high   []byte // fence above the leaf of way; nil: open
	levels [MaxHeight]incoming
	ranges []*Cutting // that are not planned yet
	holes  []hole     // of the range that is being planned
	within bool       // the last key lies in a range
	empty  int        // levels of the way, from the leaf on, that a hole takes the place of
}

// incoming is what comes into the page of a level on the way.
type incoming struct {
	entries, bytes int // with what each takes beside its key
	most           int // the largest of them
	long           int // keys that take overflow pages
	longest        int // the longest of those
}

func (in *incoming) add(n, size int) {
	in.entries += n
	in.bytes += n * size
	in.most = max(in.most, size)
}

// NewPlan begins a plan of surveyed ranges and of entries. deletes says that there are
// deletes among the entries. The tree stands still until the plan is through.
func (ix *Index) NewPlan(ranges []*Cutting, deletes bool) *plan {
	ranged := len(ranges) > 0
	return &plan{ix: ix, ranges: ranges, mixed: deletes || ranged, grows: ranged, ranged: ranged}
}

// End returns what all that was planned takes at most.
func (p *plan) End() (Stock, error) {
	if err := p.passRanges(nil); err != nil {
		return p.Stock, err
	}
	if p.begun {
		p.leave(p.ix.height - 1)
	}
	return p.Stock, nil
}

// Grows says whether more than copies of pages may be taken.
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

// comes adds a key that is not there to what comes into the leaf of the way.
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
		prefix = 0 // a merge may leave none
	}
	in.add(1, entryBytes(leaf, inlineBytes(len(key), prefix)))
}

// passRanges plans what of the ranges does not lie above key; nil is above all.
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

// reached says whether at does not lie above key; nil is above all.
func reached(at, key []byte) bool { return key == nil || bytes.Compare(at, key) <= 0 }

// inlineBytes returns what the cell of a key takes in a page.
func inlineBytes(keyLen, prefixLen int) int {
	if keyLen > maxInline {
		return longCell
	}
	return cellBytes(keyLen - prefixLen)
}

// turn goes on to the leaf of key, or stays there.
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

// turnToHole goes on to a hole.
func (p *plan) turnToHole(h hole) error {
	if err := p.leaveFor(h.low); err != nil {
		return err
	}
	p.high, p.empty = h.high, h.level+1
	return nil
}

// leaveFor goes on to the page of the tree in which key lies.
func (p *plan) leaveFor(key []byte) error {
	var next Path
	if err := p.ix.Find(key, &next); err != nil {
		return err
	}
	p.goOn(&next)
	return nil
}

// goOn goes on to the leaf of another way.
func (p *plan) goOn(next *Path) {
	h := p.ix.height
	if p.begun {
		same := h - 1 // levels from the root on that stay
		for same > 0 && next.steps[same-1].page == p.way.steps[same-1].page {
			same--
		}
		p.leave(same - 1)
	}
	copy(p.way.steps[:h], next.steps[:h])
	p.begun, p.empty = true, 0
}

// leave counts the pages of the way from the leaf up to a level: nothing more comes
// into them.
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

// grow counts the pages above the root where that splits.
func (p *plan) grow(splits, size int) {
	for splits > 0 {
		p.Pages++ // the new root
		entries := splits + 1
		if splits = pagesOf(entries, entries*size, size) - 1; entries*size <= nvmap.PageBytes-pgHeader {
			splits = 0
		}
		p.Pages += splits
	}
}

// pagesOf returns how many pages entries take at most that came by splits, with so
// many bytes together, none of which takes more than most. Halves are even up to
// half an entry, and of two parts that are nine to one the larger stays behind. No
// page that splits has so few entries that one of two would be left.
func pagesOf(entries, bytes, most int) int {
	least := (nvmap.PageBytes-pgHeader-maxPrefix-most)*9/20 - most/2
	return min(bytes/least+1, max(entries/2, 1))
}

// splits returns how often the page of a level splits at most, and what a
// separator takes in the page above. It counts the overflow pages of separators.
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
	if p.mixed { // what merges fill up to three quarters comes besides
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
	// A separator is no longer than the key that it is cut out of, and stands behind
	// a prefix that may be shorter.
	size = most - headBytes - slotWidth + pagePrefixLen(pg)
	if longs > 0 {
		size = maxInline
	}
	return n, headBytes + slotWidth + childWidth + min(size, maxInline)
}

// splitsOfHole is splits for a page of a hole, which is empty. It may have merged with a
// neighbour by then, from which what comes into it is apart after a few splits.
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

// OwnedOn returns how many pages and blocks on a way are of this epoch: a change does not
// copy them.
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

// FenceAbove returns the key below which everything in the page at a level of p
// lies; nil: it is open.
func (ix *Index) FenceAbove(p *Path, level int) (key []byte, err error) {
	for l := level + 1; l < ix.height && key == nil && err == nil; l++ {
		pg := ix.at(p.steps[l].page)
		if n, at := Count(pg), p.steps[l].at; at+1 < n {
			key, _, err = ix.KeyOf(pg, n, at+1)
		}
	}
	return key, err
}
